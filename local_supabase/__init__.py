"""A whole Supabase on loopback without Docker: PostgreSQL 17, REST and Auth, and a stand-in for Realtime."""
