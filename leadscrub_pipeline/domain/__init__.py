"""What the business is about, as pure functions: scripts, people, phones, verdicts. No input or output here."""
