//! Backfill tests.
