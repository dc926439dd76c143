"""``leadscrub simulate``: the simulated vendors in the foreground, with faults to order."""

from pathlib import Path
from typing import Annotated

import typer

from leadscrub_pipeline.cli.output import JsonOption, note, print_json
from leadscrub_pipeline.errors import UsageError
from leadscrub_pipeline.simulators import Simulators, parse_fault


def simulate(
    *,
    seed: Annotated[int, typer.Option(help="Other people and phones for another seed.")] = 1,
    latency: Annotated[float, typer.Option(min=0, help="Seconds before an answer of idiCORE or CCC.")] = 0.0,
    bill: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep the bill in this file, adding to what it holds.")
    ] = None,
    ports: Annotated[
        str | None, typer.Option(metavar="IDICORE,CCC,NTFY", help="Three ports; 0 or nothing is any free one.")
    ] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VENDOR:KIND[:NAME=VALUE...]",
            help="What goes wrong, for example idicore:timeout:share=0.1 or ccc:html:requests=3-5. May be repeated.",
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Serve simulated idiCORE, CCC and ntfy on loopback until Ctrl-C.

    Prints the settings that point a deployment at them.
    """
    orders = [parse_fault(text) for text in fault or ()]
    simulators = Simulators(seed=seed, latency=latency, bill_path=bill, ports=_ports(ports))
    faults = {
        "idicore": simulators.idicore.faults,
        "ccc": simulators.ccc.faults,
        "ntfy": simulators.ntfy.faults,
    }
    for vendor, order in orders:
        faults[vendor].add(order)
    simulators.serve(lambda serving: _announce(serving, as_json=as_json))
    billed = simulators.idicore.bill
    note(f"Stopped. {len(billed):,} lookups on the bill, {billed.total()} dollars.")


def _announce(simulators: Simulators, *, as_json: bool) -> None:
    environment = simulators.environment()
    if as_json:
        print_json(environment)
    else:
        for name, value in environment.items():
            typer.echo(f"export {name}='{value}'")
    note("Serving until Ctrl-C.")


def _ports(text: str | None) -> tuple[int, int, int]:
    if text is None:
        return (0, 0, 0)
    try:
        idicore, ccc, ntfy = (int(part) for part in text.split(","))
    except ValueError:
        raise UsageError("--ports takes three numbers, for idiCORE, CCC and ntfy: 8001,8002,8003.") from None
    return (idicore, ccc, ntfy)
