"""The vendors over HTTP: idiCORE (contacts, paid), CCC (litigators) and ntfy (alerts).

Each module turns one vendor's wire format into plain values. Who is asked, what it may cost
and where answers are kept does not belong here: the ledger and the assets decide that.
"""
