"""Lead scrub: contacts from idiCORE, litigator and Do-Not-Call flags, one master table, run by Dagster."""

__version__ = "0.1.0"
