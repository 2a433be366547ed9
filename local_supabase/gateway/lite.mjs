// The app of @supabase/lite over PostgreSQL: REST as PostgREST does it, Auth as GoTrue does it.

import { App } from "@supabase/lite";
import { createPostgresConnection } from "@supabase/lite/postgres";
import postgres from "postgres";

/** Builds the app; nothing connects before the first request. */
export function createApp(config) {
  const connection = createPostgresConnection({
    url: config.databaseUrl,
    postgresOptions: {
      max: config.poolSize,
      connect_timeout: 5,
      // Without a bound the driver waits ever longer between attempts, long after PostgreSQL is back.
      backoff: () => 0.1,
      onnotice: () => {},
      connection: { application_name: "rest", statement_timeout: config.statementTimeoutMs },
    },
  });
  // lite's own version grants every privilege on every table with row level security to the API roles at the first
  // request, which would undo the revokes of the migrations, and runs requests as the owner while no table has row level
  // security. The roles exist here and their rights are the migrations' business: always switch the role, grant nothing.
  connection.ensureRlsContext = async () => true;
  return new App({
    connection,
    api: { external_url: config.externalUrl, port: config.port },
    auth: {
      enabled: true,
      jwt_secret: config.jwtSecret,
      publishable_key: config.publishableKey,
      secret_key: config.secretKey,
    },
    db: { migrations: { enabled: false } }, // the Supabase CLI keeps that history
    studio: { enabled: false },
    options: { server: { admin: false, disableStudio: true } },
  });
}

/** Creates the tables of Auth in a new database. */
export async function provision(config) {
  const app = createApp(config);
  await app.ensureSystemSchema();
  await app.connection.close();
}

/** Drops the cached schema whenever `notify pgrst` asks for it, as PostgREST does. */
export async function reloadOnNotify(app, config) {
  const listener = postgres(config.databaseUrl, {
    max: 1, backoff: () => 0.1, onnotice: () => {}, connection: { application_name: "rest schema cache" },
  });
  // The driver subscribes anew after a lost connection and then calls the third argument: a notification may have been missed.
  const reload = () => void app.connection.clearSchemaCache();
  await listener.listen("pgrst", reload, reload);
}
