-- Database, schemas and the virtual warehouse that computes. Run by somebody who has SYSADMIN and SECURITYADMIN.
-- A PROCESSED_DATA_DB that is there already stays as it is, with its tables; its owner is the writer afterwards.

USE ROLE SYSADMIN;

CREATE WAREHOUSE IF NOT EXISTS LEADSCRUB_WH
  WAREHOUSE_SIZE = XSMALL
  AUTO_SUSPEND = 60
  AUTO_RESUME = TRUE
  INITIALLY_SUSPENDED = TRUE
  COMMENT = 'Computes for leadscrub_pipeline; sleeps when no run is at work.';
GRANT USAGE, OPERATE ON WAREHOUSE LEADSCRUB_WH TO ROLE LEADSCRUB_WRITER;
GRANT USAGE ON WAREHOUSE LEADSCRUB_WH TO ROLE LEADSCRUB_READER;

CREATE DATABASE IF NOT EXISTS PROCESSED_DATA_DB
  COMMENT = 'What leadscrub_pipeline publishes, and its work tables.';

-- Whoever owns them now: MANAGE GRANTS, which SECURITYADMIN has, hands them over.
USE ROLE SECURITYADMIN;

GRANT OWNERSHIP ON DATABASE PROCESSED_DATA_DB TO ROLE LEADSCRUB_WRITER COPY CURRENT GRANTS;
-- PUBLIC is made with the database and belongs to who made it.
GRANT OWNERSHIP ON SCHEMA PROCESSED_DATA_DB.PUBLIC TO ROLE LEADSCRUB_WRITER COPY CURRENT GRANTS;

USE ROLE LEADSCRUB_WRITER;

CREATE SCHEMA IF NOT EXISTS PROCESSED_DATA_DB.PUBLIC;
CREATE SCHEMA IF NOT EXISTS PROCESSED_DATA_DB.LEADSCRUB
  COMMENT = 'Work tables, caches and evidence of leadscrub_pipeline. Nobody else reads them.';

-- An older system's master table is taken over as it is; run this when there is one:
--
-- USE ROLE SECURITYADMIN;
-- GRANT OWNERSHIP ON TABLE PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB TO ROLE LEADSCRUB_WRITER COPY CURRENT GRANTS;
