-- title: Web inquiries, the latest of each visitor
-- owner: web-team
-- description: One inquiry an e-mail address, the newest; branch visits are followed up elsewhere.

WITH from_the_web AS (
  SELECT *
  FROM LEADS_DB.PUBLIC.WEB_INQUIRIES
  WHERE "Channel" ILIKE 'web%'
)

SELECT
  "First Name",
  "Last Name",
  "Street Address",
  "City",
  "State",
  "Zip Code",
  "Inquired At" AS inquired_at,
  IFF("Channel" ILIKE '%chat%', 'chat', 'form') AS came_by
FROM from_the_web
QUALIFY ROW_NUMBER() OVER (PARTITION BY "Email" ORDER BY "Inquired At" DESC) = 1
