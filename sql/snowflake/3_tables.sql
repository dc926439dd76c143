-- The tables, as leadscrub_pipeline/warehouse/schema.py declares them. Written by
--   python -m leadscrub_pipeline_tests.snowflake_setup
-- A table that is there stays as it is; columns that a release adds are added by leadscrub db migrate.

USE ROLE LEADSCRUB_WRITER;

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.SCHEMA_CHANGES (
  applied_at TIMESTAMP_NTZ(6),
  schema_version NUMBER(38,0),
  target VARCHAR,
  statement VARCHAR,
  checksum VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.RAW_LEADS (
  partition_key VARCHAR,
  run_id VARCHAR,
  lead_number NUMBER(38,0),
  person_key VARCHAR,
  key_version NUMBER(38,0),
  identity_hash VARCHAR,
  first_name VARCHAR,
  last_name VARCHAR,
  address VARCHAR,
  city VARCHAR,
  state VARCHAR,
  zip_code VARCHAR,
  additional VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.REJECTED_LEADS (
  partition_key VARCHAR,
  run_id VARCHAR,
  lead_number NUMBER(38,0),
  reason VARCHAR,
  first_name VARCHAR,
  last_name VARCHAR,
  address VARCHAR,
  city VARCHAR,
  state VARCHAR,
  zip_code VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.ENRICHED_CONTACTS (
  partition_key VARCHAR,
  run_id VARCHAR,
  lead_number NUMBER(38,0),
  person_key VARCHAR,
  outcome VARCHAR,
  reason VARCHAR,
  lookup_id VARCHAR,
  reused BOOLEAN,
  looked_up_at TIMESTAMP_NTZ(6),
  expires_at TIMESTAMP_NTZ(6),
  phone_1 VARCHAR,
  phone_2 VARCHAR,
  phone_3 VARCHAR,
  email_1 VARCHAR,
  email_2 VARCHAR,
  email_3 VARCHAR,
  contact VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.LITIGATOR_FLAGS (
  partition_key VARCHAR,
  run_id VARCHAR,
  phone VARCHAR,
  verdict VARCHAR,
  reason VARCHAR,
  list_version VARCHAR,
  obtained_at TIMESTAMP_NTZ(6),
  checked_at TIMESTAMP_NTZ(6),
  valid_until TIMESTAMP_NTZ(6)
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.DNC_FLAGS (
  partition_key VARCHAR,
  run_id VARCHAR,
  phone VARCHAR,
  verdict VARCHAR,
  reason VARCHAR,
  list_version VARCHAR,
  obtained_at TIMESTAMP_NTZ(6),
  checked_at TIMESTAMP_NTZ(6),
  valid_until TIMESTAMP_NTZ(6)
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.SLICES (
  table_name VARCHAR,
  partition_key VARCHAR,
  run_id VARCHAR,
  replaced_at TIMESTAMP_NTZ(6),
  row_count NUMBER(38,0),
  details VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.PERSON_CACHE (
  person_key VARCHAR,
  key_version NUMBER(38,0),
  outcome VARCHAR,
  looked_up_at TIMESTAMP_NTZ(6),
  expires_at TIMESTAMP_NTZ(6),
  record_id VARCHAR,
  partition_key VARCHAR,
  published_at TIMESTAMP_NTZ(6)
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.PUBLISHED_IDENTITIES (
  identity_hash VARCHAR,
  person_key VARCHAR,
  partition_key VARCHAR,
  settled BOOLEAN,
  record_id VARCHAR,
  identity_number NUMBER(37,0),
  owned_until TIMESTAMP_NTZ(6)
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.PHONE_VERDICTS (
  phone VARCHAR,
  source VARCHAR,
  verdict VARCHAR,
  reason VARCHAR,
  list_version VARCHAR,
  obtained_at TIMESTAMP_NTZ(6),
  checked_at TIMESTAMP_NTZ(6),
  valid_until TIMESTAMP_NTZ(6)
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.SCRUB_EVIDENCE (
  run_id VARCHAR,
  asset VARCHAR,
  sequence NUMBER(38,0),
  partition_key VARCHAR,
  script_hash VARCHAR,
  purpose VARCHAR,
  phone VARCHAR,
  source VARCHAR,
  verdict VARCHAR,
  reason VARCHAR,
  list_version VARCHAR,
  obtained_at TIMESTAMP_NTZ(6),
  checked_at TIMESTAMP_NTZ(6),
  valid_until TIMESTAMP_NTZ(6),
  canonical VARCHAR,
  row_hash VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.INTERNAL_DNC (
  phone VARCHAR,
  requested_at TIMESTAMP_NTZ(6),
  source VARCHAR,
  added_at TIMESTAMP_NTZ(6),
  run_id VARCHAR,
  withdrawn_at TIMESTAMP_NTZ(6),
  withdrawal VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.CONSENTS (
  phone VARCHAR,
  kind VARCHAR,
  given_at TIMESTAMP_NTZ(6),
  proof VARCHAR,
  expires_at TIMESTAMP_NTZ(6),
  source VARCHAR,
  added_at TIMESTAMP_NTZ(6),
  run_id VARCHAR,
  revoked_at TIMESTAMP_NTZ(6),
  revocation VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.WITHDRAWALS (
  record_id VARCHAR,
  withdrawn_at TIMESTAMP_NTZ(6),
  reason VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB.STAMP (
  name VARCHAR,
  value VARCHAR
);

CREATE TABLE IF NOT EXISTS PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB (
  record_id VARCHAR,
  job_id VARCHAR,
  job_name VARCHAR,
  table_id VARCHAR,
  table_title VARCHAR,
  processed_at TIMESTAMP_NTZ(6),
  first_name VARCHAR,
  last_name VARCHAR,
  address VARCHAR,
  city VARCHAR,
  state VARCHAR,
  zip_code VARCHAR,
  phone_1 VARCHAR,
  phone_2 VARCHAR,
  phone_3 VARCHAR,
  email_1 VARCHAR,
  email_2 VARCHAR,
  email_3 VARCHAR,
  in_litigator_list BOOLEAN,
  phone_1_in_dnc BOOLEAN,
  phone_2_in_dnc BOOLEAN,
  phone_3_in_dnc BOOLEAN,
  additional_data VARIANT
);
