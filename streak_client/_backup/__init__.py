"""Backup and restore of streaks: rows read by COPY in one snapshot, in a ZIP file with a manifest and checksums."""
