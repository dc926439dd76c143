-- Two roles. LEADSCRUB_READER runs lead scripts and sees nothing but their sources.
-- LEADSCRUB_WRITER owns PROCESSED_DATA_DB. Neither can do anything to the account.
-- Run by somebody who has USERADMIN and SECURITYADMIN.

USE ROLE USERADMIN;

CREATE ROLE IF NOT EXISTS LEADSCRUB_READER
  COMMENT = 'Runs lead scripts: reads their sources, and makes stage tables in PROCESSED_DATA_DB.LEADSCRUB.';
CREATE ROLE IF NOT EXISTS LEADSCRUB_WRITER
  COMMENT = 'Owns PROCESSED_DATA_DB and is used by leadscrub_pipeline for everything but lead scripts.';

USE ROLE SECURITYADMIN;

-- A script's result is a stage table of the reader's; the writer takes it from there and drops it.
GRANT ROLE LEADSCRUB_READER TO ROLE LEADSCRUB_WRITER;
-- So that administrators of databases keep their rights on what the writer owns.
GRANT ROLE LEADSCRUB_WRITER TO ROLE SYSADMIN;

-- The user that the pipeline signs in as, with a key pair and no password. Make the pair with
--   openssl genrsa 2048 | openssl pkcs8 -topk8 -v2 aes-256-cbc -out leadscrub_key.p8
--   openssl rsa -in leadscrub_key.p8 -pubout
-- put the public key's lines between the quotes, without the first and the last, and run:
--
-- USE ROLE USERADMIN;
-- CREATE USER IF NOT EXISTS LEADSCRUB_SERVICE
--   TYPE = SERVICE
--   RSA_PUBLIC_KEY = ''
--   DEFAULT_ROLE = LEADSCRUB_WRITER
--   DEFAULT_WAREHOUSE = LEADSCRUB_WH
--   DEFAULT_SECONDARY_ROLES = ();
-- USE ROLE SECURITYADMIN;
-- GRANT ROLE LEADSCRUB_READER TO USER LEADSCRUB_SERVICE;
-- GRANT ROLE LEADSCRUB_WRITER TO USER LEADSCRUB_SERVICE;
