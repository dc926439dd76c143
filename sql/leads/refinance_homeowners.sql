-- title: Refinance: homeowners with an active loan
-- owner: lending-data
-- description: Owners whose loan was recorded in the last six months at a rate that refinancing would lower.

SELECT
  first_name,
  last_name,
  address,
  city,
  state,
  zip_code,
  loan_amount,
  rate_percent
FROM LEADS_DB.PUBLIC.HOMEOWNERS
WHERE status ILIKE 'active'
  AND recorded_on >= DATEADD(month, -6, '2026-10-01'::DATE)
