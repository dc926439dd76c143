-- title: Mailing campaign: property owners in the CRM
-- owner: marketing
-- description: Contacts who did not opt out, with the property they own.
-- databases: LEADS_DB
-- columns: address = property_address, city = town, state = st, zip_code = zip

SELECT
  c.fname AS first_name,
  c.lname AS last_name,
  p.property_address,
  p.town,
  p.st,
  p.zip,
  p.assessed_value,
  c.segment
FROM LEADS_DB.CRM.CONTACTS AS c
INNER JOIN LEADS_DB.CRM.PROPERTIES AS p
  ON p.owner_contact_id = c.contact_id
WHERE NOT c.opted_out
