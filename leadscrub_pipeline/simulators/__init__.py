"""idiCORE, CCC and ntfy on loopback, deterministic by seed, with a bill and with faults to order.

For the demo, the tests, and operators who rehearse an outage. Only the domain is imported
here: a simulator that shared code with the clients would agree with their mistakes.
"""

from leadscrub_pipeline.simulators.bill import Bill, BillEntry, read_bill
from leadscrub_pipeline.simulators.faults import Fault, parse_fault
from leadscrub_pipeline.simulators.process import SimulatorProcess
from leadscrub_pipeline.simulators.server import Simulators

__all__ = ["Bill", "BillEntry", "Fault", "SimulatorProcess", "Simulators", "parse_fault", "read_bill"]
