"""Tables of USPS Publication 28: street suffixes, directions, unit designators, states.

Only words and their standard forms stand here, in lower case and without punctuation. How an
address is taken apart does not belong here; a change of an entry is a change of person keys.
"""

from typing import Final

_SUFFIXES: Final = """
aly allee alley ally
anx anex annex annx
arc arcade
ave av aven avenu avenue avn avnue
byu bayoo bayou
bch beach
bnd bend
blf bluf bluff
blfs bluffs
btm bot bottm bottom
blvd boul boulevard boulv bvd bld
br brnch branch
brg brdge bridge
brk brook
brks brooks
bg burg
bgs burgs
byp bypa bypas bypass byps
cp camp cmp
cyn canyn canyon cnyn
cpe cape
cswy causeway causwa causway
ctr cen cent center centr centre cnter cntr
ctrs centers
cir circ circl circle crcl crcle
cirs circles
clf cliff
clfs cliffs
clb club
cmn common
cmns commons
cor corner
cors corners
crse course
ct court crt
cts courts
cv cove
cvs coves
crk creek
cres crescent crsent crsnt
crst crest
xing crossing crssng
xrd crossroad
xrds crossroads
curv curve
dl dale
dm dam
dv div divide dvd
dr driv drive drv
drs drives
est estate
ests estates
expy exp expr express expressway expw
ext extension extn extnsn
exts extensions
fls falls
fry ferry frry
fld field
flds fields
flt flat
flts flats
frd ford
frds fords
frst forest forests
frg forg forge
frgs forges
frk fork
frks forks
ft fort frt
fwy freeway freewy frway frwy
gdn garden gardn grden grdn
gdns gardens grdns
gtwy gateway gatewy gatway gtway
gln glen
glns glens
grn green
grns greens
grv grov grove
grvs groves
hbr harb harbor harbr hrbor
hbrs harbors
hvn haven
hts ht heights hgts
hwy highway highwy hiway hiwy hway
hl hill
hls hills
holw hllw hollow hollows holws
inlt inlet
is island islnd
iss islands islnds
isle isles
jct jction jctn junction junctn juncton
jcts jctns junctions
ky key
kys keys
knl knol knoll
knls knolls
lk lake
lks lakes
lndg landing lndng
ln lane
lgt light
lgts lights
lf loaf
lck lock
lcks locks
ldg ldge lodg lodge
loop loops
mnr manor
mnrs manors
mdw meadow
mdws meadows medows
ml mill
mls mills
msn missn mission mssn
mtwy motorway
mt mnt mount
mtn mntain mntn mountain mountin mtin
mtns mntns mountains
nck neck
orch orchard orchrd
oval ovl
opas overpass
park prk
pkwy parkway parkwy pkway pky
pkwys parkways
psge passage
path paths
pike pikes
pne pine
pnes pines
pl place
pln plain
plns plains
plz plaza plza
pt point
pts points
prt port
prts ports
pr prairie prr
radl rad radial radiel
rnch ranch ranches rnchs
rpd rapid
rpds rapids
rst rest
rdg ridge rdge
rdgs ridges
riv river rvr rivr
rd road
rds roads
rte route
shl shoal
shls shoals
shr shoar shore
shrs shoars shores
skwy skyway
spg spng spring sprng
spgs spngs springs sprngs
spur spurs
sq sqr sqre squ square
sqs sqrs squares
sta station statn stn
stra strav straven stravenue stravn strvn strvnue
strm stream streme
st street strt str saint
sts streets saints
smt sumit sumitt summit
ter terr terrace
trwy throughway
trce trace traces
trak track tracks trk trks
trfy trafficway
trl trail trails trls
trlr trailer trlrs
tunl tunel tunls tunnel tunnels tunnl
tpke trnpk turnpike turnpk
upas underpass
un union
uns unions
vly valley vally vlly
vlys valleys
via vdct viadct viaduct
vw view
vws views
vlg vill villag village villg villiage
vlgs villages
vl ville
vis vist vista vst vsta
walk walks
wall
way wy
ways
wl well
wls wells
"""

_DIRECTIONS: Final = """
n north
s south
e east
w west
ne northeast
nw northwest
se southeast
sw southwest
"""

_NUMBERS: Final = """
1 first
2 second
3 third
4 fourth
5 fifth
6 sixth
7 seventh
8 eighth
9 ninth
10 tenth
11 eleventh
12 twelfth
13 thirteenth
14 fourteenth
15 fifteenth
16 sixteenth
17 seventeenth
18 eighteenth
19 nineteenth
20 twentieth
"""

_UNITS: Final = """
# apt apartment aptmt appt unit ste suite suit
bldg building bld
bsmt basement
dept department
fl floor flr
frnt front
hngr hangar
lbby lobby
lot
lowr lower
ofc office
ph penthouse
pier
rear
rm room
side
slip
spc space
stop
trlr trailer
uppr upper
"""

_STATES: Final = """
al alabama
ak alaska
as americansamoa
az arizona
ar arkansas
ca california
co colorado
ct connecticut
de delaware
dc districtofcolumbia washingtondc
fl florida
fm federatedstatesofmicronesia
ga georgia
gu guam
hi hawaii
id idaho
il illinois
in indiana
ia iowa
ks kansas
ky kentucky
la louisiana
me maine
mh marshallislands
md maryland
ma massachusetts
mi michigan
mn minnesota
ms mississippi
mo missouri
mt montana
ne nebraska
nv nevada
nh newhampshire
nj newjersey
nm newmexico
ny newyork
nc northcarolina
nd northdakota
mp northernmarianaislands
oh ohio
ok oklahoma
or oregon
pw palau
pa pennsylvania
pr puertorico
ri rhodeisland
sc southcarolina
sd southdakota
tn tennessee
tx texas
ut utah
vt vermont
va virginia
vi virginislands usvirginislands
wa washington
wv westvirginia
wi wisconsin
wy wyoming
"""

_GENERATIONS: Final = """
jr junior jnr
sr senior snr
ii 2nd
iii 3rd
iv 4th
v 5th
"""


def words(text: str) -> frozenset[str]:
    return frozenset(text.split())


def _table(text: str) -> dict[str, str]:
    """Each line: the standard form, then its other spellings. The first line that names a spelling decides."""
    table: dict[str, str] = {}
    for line in text.strip().splitlines():
        standard, *others = line.split()
        for word in (standard, *others):
            table.setdefault(word, standard)
    return table


STREET_SUFFIXES: Final = _table(_SUFFIXES)
DIRECTIONS: Final = _table(_DIRECTIONS)
NUMBER_WORDS: Final = _table(_NUMBERS)
UNIT_DESIGNATORS: Final = _table(_UNITS)
STATES: Final = _table(_STATES)
GENERATIONS: Final = _table(_GENERATIONS)

UNITS_WITHOUT_NUMBER: Final = frozenset({"bsmt", "frnt", "lbby", "lowr", "ofc", "ph", "rear", "side", "uppr"})
"""Designators that name a unit by themselves."""

ROUTE_WORDS: Final = frozenset({"hwy", "rte", "fwy", "expy", "pike", "tpke", "box", "rr", "hc", "us", "fm", "loop"})
"""After these a number is the road's or box's own, not a unit."""

ROUTE_OWNERS: Final = frozenset({"county", "state", "private", "township", "us", "farm", "ranch", "forest", "service"})
"""Words before road that make a following number the road's own: County Road 4."""
