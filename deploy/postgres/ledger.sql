-- Runs once, when the server's folder is made. The database dagster is made by POSTGRES_DB.
CREATE DATABASE ledger;
