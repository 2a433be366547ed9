"""What can go wrong while a local Supabase starts or runs."""


class LocalSupabaseError(Exception):
    """A local Supabase cannot start or go on; the message says why and what to do, and holds no secret."""


class InstallError(LocalSupabaseError):
    """Node or the npm packages could not be installed."""


class PartFailedError(LocalSupabaseError):
    """A part (PostgreSQL, the gateway, Realtime) failed to start or ended by itself."""


class MigrationError(LocalSupabaseError):
    """`supabase db push` refused a migration."""
