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

/** lite and its connections, as one thing that can be thrown away. */
export class Backend {
  #app;
  #watch;
  #running = false;
  #abandoned = false;

  /**
   * @param known The schema that an earlier backend had read, if there was one.
   * @param lost Called once when PostgreSQL goes away.
   */
  constructor(config, known, lost) {
    this.#app = createApp(config);
    // Without it, requests while PostgreSQL is away would be told that no table and no function exists.
    this.#app.connection.introspection = known;
    this.#watch = postgres(config.databaseUrl, {
      max: 1,
      max_lifetime: null,
      backoff: () => 0.1,
      onnotice: () => {},
      onclose: () => this.#running && !this.#abandoned && lost(),
      connection: { application_name: "rest schema cache" },
    });
    this.fetch = this.#app.fetch;
  }

  /** Whether PostgreSQL is there and the schema was read. */
  get running() {
    return this.#running;
  }

  get schema() {
    return this.#app.connection.introspection;
  }

  /** Connects, reads the schema, and reads it again whenever `notify pgrst` asks for it, as PostgREST does. */
  async start() {
    await this.#watch`select`;
    const read = () => this.#app.connection.introspect(); // replaces what is known only if it succeeds
    const [{ replica }] = await this.#watch`select pg_is_in_recovery() as replica`;
    if (!replica) await this.#watch.listen("pgrst", read); // a read replica refuses to LISTEN
    await read();
    this.#running = true;
  }

  /** The same, as often as it takes. */
  async startWhenPossible() {
    while (!this.#abandoned) {
      try {
        return await this.start();
      } catch {
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
    }
  }

  /** Lets go of all connections, without waiting for anything. */
  abandon() {
    this.#abandoned = true;
    for (const driver of [this.#app.connection.driver, this.#watch]) driver.end({ timeout: 0 }).catch(() => {});
  }
}
