"""Made-up people by number, and how the same person is spelled another way.

The person at a number is the same in every process, and two numbers are never one person.
Tables that hold them do not belong here.
"""

from typing import Final

from leadscrub_pipeline.domain.people import Person
from leadscrub_pipeline.simulators.phones import mix

_FIRST: Final = """
Alma Amir Anita Arlo Astrid Beatriz Bruno Callum Camila Carmen Cedric Chloe Dario Deepa Della Dmitri Edith Elias
Elena Emeka Esther Fatima Felix Fiona Gideon Grace Hanna Hector Ibrahim Imani Ingrid Irene Isaac Ivy Jamal Joaquin
Josefa Jun Kaito Karen Keisha Lamar Leila Leon Lucia Magnus Maeve Marcel Mei Miles Mina Nadia Nelson Nina Noor
Octavia Olga Omar Opal Pablo Petra Priya Quentin Rafael Ramona Rhea Rosa Rufus Sadie Samir Selma Silas Simone
Sofia Stefan Tamara Teo Thora Uma Valeria Vikram Wanda Wesley Xenia Yara Yusuf Zelda
Zoë José René Inés Łucja Søren Anne-Marie D'Andre
"""
_LAST: Final = """
Abara Abbott Acosta Adler Alvarado Amundsen Archer Ashby Bakker Barlow Bauer Becker Beltran Bishop Blackwood Boone
Bradshaw Brennan Briggs Calloway Camacho Carver Castillo Chandler Chavez Cheng Clarke Cohen Colvin Cordova Crane
Dalton Darby Delgado Dempsey Desai Dillard Dixon Doyle Drummond Eastman Ekström Ellison Emery Escobar Farrell Faulkner
Figueroa Finch Fleming Forsythe Fuentes Gallagher Garner Gibbs Goodwin Grady Greer Guzmán Haddad Hale Hargrove
Hartley Hayashi Hendrix Herrera Holloway Hobbs Ibarra Iverson Jansen Jarvis Kaplan Keller Kendrick Kowalski Landry
Larkin Lindgren Lockhart Lozano Maddox Mahoney Marlow Mbeki McBride McKenna Mehta Mercer Montoya Morrow Nakamura
Navarro Nuñez O'Brien O'Malley Okafor Olsen Ortega Paxton Peralta Pham Prescott Quigley Quintero Ramsey Redmond
Reyes Rhodes Rosario Rowland Salazar Sandoval Schaefer Sharma Sloan Soto Stanton Suarez Talbot Tanaka Thorne
Underwood Valdez Vaughn Villanueva Walsh Weaver Whitaker Winslow Yates Yoder Zamora Zimmerman Smith-Jones
"""
_STREET: Final = """
Alder Amber Anchor Aspen Balsam Barley Beacon Birch Bluebell Bramble Briar Brook Buckeye Canary Cedar Cherry
Chestnut Cinnamon Clover Copper Coral Cottonwood Cypress Dogwood Elm Falcon Fern Foxglove Garnet Ginger Granite
Harvest Hawthorn Hazel Heather Heron Hickory Holly Iris Juniper Larch Laurel Lilac Linden Magnolia Mallard Maple
Marigold Meadow Mulberry Nutmeg Oak Orchard Osprey Pebble Pine Plover Poplar Primrose Quail Redwood Robin Rowan
Saffron Sage Sequoia Sparrow Spruce Sumac Sycamore Tamarack Thistle Tulip Violet Walnut Willow Yarrow
"""
FIRST_NAMES: Final = tuple(_FIRST.split())
LAST_NAMES: Final = tuple(_LAST.split())
STREETS: Final = tuple(_STREET.split())
_SUFFIXES: Final = (
    ("Street", "St"), ("Avenue", "Ave"), ("Boulevard", "Blvd"), ("Drive", "Dr"),
    ("Lane", "Ln"), ("Road", "Rd"), ("Court", "Ct"), ("Place", "Pl"),
)  # fmt: skip
_DIRECTIONS: Final = (("", ""), ("", ""), ("North ", "N "), ("South ", "S. "))
PLACES: Final = (
    ("Boston", "MA", "02118", "Massachusetts"), ("Worcester", "MA", "01602", "Massachusetts"),
    ("Providence", "RI", "02906", "Rhode Island"), ("Hartford", "CT", "06105", "Connecticut"),
    ("Newark", "NJ", "07104", "New Jersey"), ("Buffalo", "NY", "14209", "New York"),
    ("Albany", "NY", "12208", "New York"), ("Pittsburgh", "PA", "15206", "Pennsylvania"),
    ("Erie", "PA", "16502", "Pennsylvania"), ("Dayton", "OH", "45409", "Ohio"),
    ("Toledo", "OH", "43606", "Ohio"), ("Lansing", "MI", "48910", "Michigan"),
    ("Peoria", "IL", "61604", "Illinois"), ("Madison", "WI", "53703", "Wisconsin"),
    ("Duluth", "MN", "55804", "Minnesota"), ("Des Moines", "IA", "50312", "Iowa"),
    ("Omaha", "NE", "68104", "Nebraska"), ("Wichita", "KS", "67208", "Kansas"),
    ("Tulsa", "OK", "74114", "Oklahoma"), ("Austin", "TX", "78704", "Texas"),
    ("El Paso", "TX", "79912", "Texas"), ("Shreveport", "LA", "71104", "Louisiana"),
    ("Jackson", "MS", "39211", "Mississippi"), ("Mobile", "AL", "36604", "Alabama"),
    ("Macon", "GA", "31204", "Georgia"), ("Tampa", "FL", "33609", "Florida"),
    ("Columbia", "SC", "29205", "South Carolina"), ("Raleigh", "NC", "27608", "North Carolina"),
    ("Richmond", "VA", "23220", "Virginia"), ("Knoxville", "TN", "37919", "Tennessee"),
    ("Denver", "CO", "80205", "Colorado"), ("Boise", "ID", "83702", "Idaho"),
    ("Tucson", "AZ", "85716", "Arizona"), ("Reno", "NV", "89509", "Nevada"),
    ("Fresno", "CA", "93704", "California"), ("Eugene", "OR", "97405", "Oregon"),
    ("Spokane", "WA", "99203", "Washington"), ("Billings", "MT", "59102", "Montana"),
    ("Fargo", "ND", "58103", "North Dakota"), ("Bangor", "ME", "04401", "Maine"),
)  # fmt: skip
"""City, state code, ZIP and state name; several ZIPs begin with the zero that spreadsheets take."""

_NUMBERS: Final = 9_000
HOMES: Final = _NUMBERS * len(STREETS) * len(_SUFFIXES) * len(_DIRECTIONS) * len(PLACES)
"""How many numbers there are: more than 800 million."""
_STEP: Final = 15_485_863
"""A prime that does not divide HOMES, so that no two numbers give one home."""


def person_at(index: int, *, seed: int) -> Person:
    """The person at a number below ``HOMES``.

    Homes differ for all numbers but for every tenth, who lives at the home of the number
    before: another first name there, or the same name with Jr.
    """
    shares_home = index % 10 == 9
    home = ((index - shares_home) * _STEP + mix(seed, 0, 11)) % HOMES
    address, place = _home(home)
    names = mix(index - shares_home, seed, 12)
    names, first = divmod(names, len(FIRST_NAMES))
    last = LAST_NAMES[names % len(LAST_NAMES)]
    city, state, zip_code, _ = PLACES[place]
    if not shares_home:
        return Person(FIRST_NAMES[first], last, address, city, state, zip_code)
    if index % 20 == 19:
        return Person(FIRST_NAMES[first], f"{last} Jr", address, city, state, zip_code)
    return Person(FIRST_NAMES[(first + 1) % len(FIRST_NAMES)], last, address, city, state, zip_code)


def _home(home: int) -> tuple[str, int]:
    """The address and the place's index."""
    home, street = divmod(home, len(STREETS))
    home, suffix = divmod(home, len(_SUFFIXES))
    home, direction = divmod(home, len(_DIRECTIONS))
    number, place = divmod(home, len(PLACES))
    # The directions' two empty entries tell homes apart by parity of the house number.
    house = 100 + number * 2 + (direction == 1)
    unit = f" Apt {1 + house % 40}" if street % 5 == 0 else ""
    return f"{house} {_DIRECTIONS[direction][0]}{STREETS[street]} {_SUFFIXES[suffix][0]}{unit}", place


def respelled(person: Person, way: int) -> Person:
    """The same person as another system writes them, in one of eight ways."""
    first, last, address = person.first_name or "", person.last_name or "", person.address or ""
    match way % 8:
        case 0:
            person = person._replace(first_name=first.upper(), last_name=last.upper(), address=address.upper())
        case 1:
            person = person._replace(address=_abbreviated(address))
        case 2:
            person = person._replace(first_name=f"  {first} ", last_name=f"{last} ", address=address.replace(" ", "  "))
        case 3:
            person = person._replace(address=address.replace(" Apt ", " #").lower(), city=(person.city or "").upper())
        case 4:
            person = person._replace(zip_code=f"{person.zip_code}-{1000 + way % 9000}")
        case 5:
            person = person._replace(state=_state_name(person.state), address=_abbreviated(address) + ".")
        case 6:
            person = person._replace(last_name=last.replace("'", "").replace(" Jr", ", JR."), zip_code=_short(person))
        case 7:
            unit = address.replace(" Apt ", ", Unit ")
            person = person._replace(first_name=first.lower(), last_name=last.lower(), address=unit)
    return person


def _abbreviated(address: str) -> str:
    for long, short in (*_SUFFIXES, *_DIRECTIONS):
        if long:
            address = address.replace(f" {long.strip()}", f" {short.strip()}")
    return address


def _state_name(code: str | None) -> str | None:
    return next((name for _, state, _, name in PLACES if state == code), code)


def _short(person: Person) -> str | None:
    """The ZIP without its leading zeros, as a spreadsheet leaves it."""
    return None if person.zip_code is None else person.zip_code.lstrip("0")
