"""Words that leave the value beside them as it is, as data; what is not listed here does not.

    "There are 5 apples in the picture"   neutral, so the answer says 5
    "There are 5 dozen", "all but 5"      not neutral, so nobody knows for certain what it says

`sentence` says where in a sentence which of these may stand.
"""

from __future__ import annotations

from mmpr_builder.scoring.clean import words

DETERMINERS = frozenset(
    words("the a an this that these those his her its their my our your each every")
)
_FILLERS = words("""
    so thus hence therefore then and well indeed clearly overall finally now also altogether here
    we i you he she it they them there us me who which i'd we'd exact rounded simplified nearest
    exactly precisely about approximately approx around roughly circa just only simply to of in
    on at for with by as both all together
""")
_VERBS = words("""
    is are was were be been being equal equals has have had having contains contain includes
    include gives give get gets got shows show shown see seen can find found count counted counts
    reads read reaches reach measures measured weighs costs cost takes take took need needs
    needed requires earned earn sold won collected drove walked traveled travelled ran bought buy
    made make makes scored received uses used represents represent indicates indicate displays
    displayed says say states labeled labelled marked called named becomes become comes
    determined obtain obtained calculated given written depicted pictured holds hold stands lasts
    spent pay pays paid save saves saved owe owes earns intersect intersects meet meets cross
    crosses cover covers visible drawn located appears appear do does did sits it's he's she's
    that's there's what's here's will would should with
""")
_NOUNS = words("""
    answer answers result results value values solution solutions roots total sum number numbers
    amount count quantity figure expression equation variable product quotient difference average
    mean median mode range maximum minimum max min highest lowest largest smallest greatest
    longest shortest tallest biggest probability chance odds ratio fraction percentage percent
    proportion rate share scale factor measure measurement size length width height depth
    distance perimeter area volume surface circumference diameter radius angle angles arc chord
    slope gradient intercept x-intercept y-intercept coordinate coordinates point points vertex
    origin side sides edge edges face faces diagonal hypotenuse leg legs altitude midpoint
    triangle triangles rectangle rectangles circle circles cone cylinder sphere prism pyramid
    polygon pentagon hexagon octagon trapezoid parallelogram rhombus quadrilateral segment
    segments line lines ray function sequence set data speed velocity acceleration force mass
    weight energy power current voltage resistance pressure temperature density frequency work
    charge time year month day date hour price cost salary income profit age population score
    degree degrees interior exterior central inscribed right acute obtuse equilateral isosceles
    scalene first second third correct final required missing unknown desired following
    corresponding image picture photo photograph diagram graph chart table plot scene map drawing
    illustration bar bars column columns row rows slice sector section axis legend title label
    sign text color colour shape name type kind category item items object objects animal animals
    person clock country city state option choice option's choices letter word people persons man
    men woman women child children kids boys girls students left top bottom middle center centre
    front back upper lower main blue red green yellow orange purple pink brown black white gray
    grey dark light big small large tall long wide high deep thick heavy whole shaded colored
    coloured different distinct possible positive integer real even odd such way ways units unit
    visible altogether
""")
_ADJECTIVES = words("""
    blue red green yellow orange purple pink brown black white gray grey dark light bright big
    small large tall long wide high deep thick heavy wooden round square whole shaded colored
    coloured different distinct possible positive integer even odd such full main left right top
    bottom middle front back real male female adult unique
""")
ADJECTIVES = frozenset(_ADJECTIVES)
NEUTRAL = frozenset([*DETERMINERS, *_FILLERS, *_VERBS, *_NOUNS, *_ADJECTIVES])
LEADS = frozenset([*_VERBS, *words("answer result value total sum year")]) - {
    *words("can do does did being been needed given written drawn located will would should"),
}
"""What may stand directly before a value: `The perimeter is 5`, `She needs 5 cups`, `Total 5`."""
PRONOUNS = frozenset(words("it they he she this that will would should to"))
"""May stand directly before words that answer a question: `It falls`, `They will fall`."""
CONNECTORS = frozenset(
    words("so thus hence therefore then finally overall indeed clearly well answer")
)
SUPERLATIVES = frozenset(
    words("""
    highest lowest largest smallest greatest longest shortest tallest biggest maximum minimum max
    min first second third last
""")
)
"""Neutral where the question asks for no other one: the lowest is no answer about the highest."""
DEEDS = frozenset(
    words(
        "has have had needs needed bought buys paid pays spent earned earns scored made makes got"
    )
    + words("sold sells gets takes took weighs ran drove walked won")
)
"""What people do with values: `Tom has 5 marbles`."""
SAYS = frozenset(
    words("is are was were says say reads read shows show called named answer year costs weighs")
    + words("measures equals it's he's she's that's")
)
"""What may stand before a truth in words: `The sign says STOP`."""
COPULAS = frozenset(words("is are was were"))
SOFTENERS = frozenset(
    words("exactly precisely about approximately approx around roughly circa just only simply")
)
MEASURED = frozenset(
    words("""
    total length width height depth distance perimeter area volume value sum measure weight mass
    price cost speed age score average mean probability radius angle amount number diameter
    population temperature maximum minimum year
""")
)
"""These may be followed by "of" and the value: `a total of 5`, `has a length of 5`."""
PLACES = frozenset(words("in on at of inside"))
TAILS = frozenset(
    words("total all altogether overall long wide tall high deep there here visible shown needed")
)
"""May end a sentence behind its value: `5 apples in total`, `5 m long`."""

# These say another value than the one that is named; no question makes them neutral.
NEVER = frozenset(
    words("""
    not no never none nobody nothing everyone everybody few several neither nor cannot without
    except but or either maybe perhaps possibly could might may if unless wrong incorrect false
    mistaken doubt unsure unlikely impossible instead rather than though although however
    excluding besides beyond between
""")
) - {"than"}
# So do these, unless the question has them, among the same neighbours.
CHANGING = frozenset(
    words("""
    half halves twice thrice double doubled triple tripled quadruple halved reversed reverse than
    squared cubed times multiplied divided raised added subtracted minus plus negative modulo mod
    above below exceed exceeds exceeded exceeding within under over near nearly almost barely
    hardly close next before after until since past previous through more less fewer greater
    higher lower larger smaller bigger longer shorter taller older younger heavier lighter wider
    most least fewest lots up down off out away apart short behind ahead root reciprocal inverse
    opposite complement supplement multiple multiples factors divisor divisors digit digits log
    logarithm factorial remainder remaining rest remain remains other others another else powers
    exponent bound successor predecessor dozen dozens hundred hundreds thousand thousands million
    millions billion billions trillion tens ones pair pairs couple couples scores gross pack
    packs packet packets percents thirds fourths quarters fifths sixths sevenths eighths ninths
    tenths hundredths thousandths fails lacks misses goes always towards afterwards upwards
    downwards
""")
)
SHAPES = frozenset(words("square cube"))
"""A shape behind a preposition ("the area of the square"), an operation elsewhere."""

RIVALS = tuple(
    tuple(frozenset(words(group)) for group in family)
    for family in (
        ("mean average", "median", "mode", "range"),
        ("perimeter circumference", "area", "volume"),
        ("radius", "diameter", "chord"),
        ("speed velocity", "distance", "acceleration"),
        ("mass weight", "volume", "density"),
        ("slope gradient", "intercept x-intercept", "y-intercept"),
        (
            "spend spent pay pays paid cost costs buy bought",
            "earn earned raise raised collect collected sell sold win won",
            "save saved saves",
            "owe owes owed",
        ),
    )
)
"""Measures and deeds of a kind: one of them is no answer where another one is asked for."""

_IRREGULAR = frozenset(
    words("people persons men women children fish sheep deer feet teeth mice geese dice staff")
)
NOT_THINGS = frozenset([*_FILLERS, *_VERBS])


def is_plural(word: str) -> bool:
    """Whether a word counts things: `apples`, `people`; not `less`, `halves` or `times`."""
    if word in CHANGING or word in NEVER or word in NOT_THINGS or not word.isalpha():
        return False
    if word in _IRREGULAR:
        return True
    return len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))


def is_thing_name(word: str) -> bool:
    """Whether an unknown word may name one thing: `apple` in `1 apple`; not `short`, `is`."""
    return word.isalpha() and not (word in CHANGING or word in NEVER or word in NOT_THINGS)
