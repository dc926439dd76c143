"""The work of each asset as plain functions over vendors, ledger, registry and warehouse. Dagster is not known here."""
