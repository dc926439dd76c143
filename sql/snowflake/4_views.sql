-- Which numbers may be called. Written by
--   python -m leadscrub_pipeline_tests.snowflake_setup

USE ROLE LEADSCRUB_WRITER;

CREATE OR REPLACE VIEW PROCESSED_DATA_DB.PUBLIC.CALLABLE_PHONES COPY GRANTS AS
WITH held AS (
  SELECT record_id, processed_at, in_litigator_list,
    CASE WHEN LENGTH(phone_1) = 12 AND SUBSTR(phone_1, 11) = '.0' THEN SUBSTR(phone_1, 1, 10) ELSE phone_1 END AS phone,
    additional_data:provenance.contact.is_dead::VARCHAR AS is_dead,
    additional_data:provenance.contact.phone_1.disconnected::VARCHAR AS disconnected
  FROM PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB
  UNION ALL
  SELECT record_id, processed_at, in_litigator_list,
    CASE WHEN LENGTH(phone_2) = 12 AND SUBSTR(phone_2, 11) = '.0' THEN SUBSTR(phone_2, 1, 10) ELSE phone_2 END AS phone,
    additional_data:provenance.contact.is_dead::VARCHAR AS is_dead,
    additional_data:provenance.contact.phone_2.disconnected::VARCHAR AS disconnected
  FROM PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB
  UNION ALL
  SELECT record_id, processed_at, in_litigator_list,
    CASE WHEN LENGTH(phone_3) = 12 AND SUBSTR(phone_3, 11) = '.0' THEN SUBSTR(phone_3, 1, 10) ELSE phone_3 END AS phone,
    additional_data:provenance.contact.is_dead::VARCHAR AS is_dead,
    additional_data:provenance.contact.phone_3.disconnected::VARCHAR AS disconnected
  FROM PROCESSED_DATA_DB.PUBLIC.MASTER_PROCESSED_DB
),
holders AS (
  SELECT
    h.phone,
    COUNT(*) AS holders,
    SUM(CASE
      WHEN h.in_litigator_list = FALSE AND h.is_dead IS DISTINCT FROM 'true'
        AND h.disconnected IS DISTINCT FROM 'true' AND w.record_id IS NULL THEN 1
      ELSE 0
    END) AS free_holders
  FROM held AS h
  LEFT JOIN PROCESSED_DATA_DB.LEADSCRUB.WITHDRAWALS AS w ON w.record_id = h.record_id AND w.withdrawn_at >= h.processed_at
  WHERE h.phone IS NOT NULL
  GROUP BY h.phone
),
consents AS (
  SELECT
    phone, kind, proof, expires_at,
    ROW_NUMBER() OVER (
      PARTITION BY phone ORDER BY CASE WHEN expires_at IS NULL THEN 0 ELSE 1 END, expires_at DESC, kind, proof
    ) AS place
  FROM PROCESSED_DATA_DB.LEADSCRUB.CONSENTS
  WHERE revoked_at IS NULL AND (expires_at IS NULL OR expires_at > CAST(CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP()) AS TIMESTAMP_NTZ))
)
SELECT
  h.phone,
  CASE
    WHEN dnc.verdict = 'clear' AND dnc.valid_until < ccc.valid_until THEN dnc.valid_until
    WHEN dnc.verdict = 'listed' AND c.expires_at < ccc.valid_until THEN c.expires_at
    ELSE ccc.valid_until
  END AS valid_until,
  ccc.checked_at AS litigator_checked_at,
  dnc.checked_at AS dnc_checked_at,
  dnc.list_version AS dnc_list_version,
  CASE WHEN dnc.verdict = 'clear' THEN 'not_listed' ELSE c.kind END AS basis,
  CASE WHEN dnc.verdict = 'listed' THEN c.proof END AS consent_proof
FROM holders AS h
JOIN PROCESSED_DATA_DB.LEADSCRUB.PHONE_VERDICTS AS ccc
  ON ccc.phone = h.phone AND ccc.source = 'ccc' AND ccc.verdict = 'clear' AND ccc.valid_until > CAST(CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP()) AS TIMESTAMP_NTZ)
JOIN PROCESSED_DATA_DB.LEADSCRUB.PHONE_VERDICTS AS dnc ON dnc.phone = h.phone AND dnc.source = 'dnc'
LEFT JOIN consents AS c ON c.phone = h.phone AND c.place = 1
LEFT JOIN (SELECT DISTINCT phone FROM PROCESSED_DATA_DB.LEADSCRUB.INTERNAL_DNC WHERE withdrawn_at IS NULL) AS company ON company.phone = h.phone
WHERE h.holders = h.free_holders
  AND company.phone IS NULL
  AND ((dnc.verdict = 'clear' AND dnc.valid_until > CAST(CONVERT_TIMEZONE('UTC', CURRENT_TIMESTAMP()) AS TIMESTAMP_NTZ)) OR (dnc.verdict = 'listed' AND c.phone IS NOT NULL));
