"""The record of truth: engine, tables and migrations.

Called by every room that stores something. It knows columns and transactions, not what they mean: queries live in the
room that owns a table. SQLite on one machine, PostgreSQL in a cluster, the same migrations on both.
"""
