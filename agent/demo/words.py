"""Words for the training data: common English ones, and made-up ones that no model can have memorized.

Every name, title, url and value that a sample asks for is made up, so the only way to answer is to copy.
"""

from __future__ import annotations

import random

NOUNS = """
age air animal apple area arm army art author baby bag balance ball band bank bar base basin basket bath battle bay
beach beam bear bed bell bench bill bird birth blade block blood board boat body bone book border bottle bottom bowl box
boy branch bread breath brick bridge brother building bus bush business butter button cabin cable cake camera camp canal
candle capital car card care carriage case castle cat cathedral cattle cause cave ceiling cell center century ceremony
chain chair chamber chance chapel chapter charge chest chief child choice church circle city claim class clay cliff
climate clock cloth cloud club coal coast coat code coin collection college colony color column comet committee
community company composer concert condition copper copy coral corner cost cotton council country county couple course
court cover cow craft crater cream creek crew crop crown crystal culture cup current curtain curve custom dance danger
date daughter day dead death debt decade decision deck degree delta density depth desert design desk detail device
diameter diet dinner direction director discovery disease dish distance district doctor dog dome door doubt dragon
drawing dream dress drink drop dust duty eagle ear earth east edge editor effect egg election element elephant emperor
empire end energy engine engineer entrance error event example exhibition eye fabric face fact factory family farm
farmer father feather feature festival field figure film finger fire fish flag flame flavor flight flood floor flour
flow flower food foot force forest fork form fort fortune forum foundation fountain frame friend frog front fruit fuel
fungus fur gallery game garden gas gate gift girl glacier glass goal goat god gold government grain grandfather granite
grape grass grave ground group growth guard guest guide gulf habit hair hall hammer hand harbour hat head health heart
heat height hill history hole holiday home honey hope horn horse hospital hotel hour house human hunter husband ice idea
image industry ink insect inventor iron island ivory job journal journey judge juice jungle key kind king kingdom
kitchen knife knot knowledge laboratory ladder lake lamp land language layer lead leader leaf league leather leg length
lens lesson letter level library life light lighthouse limb limestone line lion list liver lizard load loan lock log
loss machine mammal manuscript map marble mark market marriage mass master match material meal measure meat medal memory
mercury metal meteor method middle mile milk mill mind mine mineral minister mirror model moment monastery money monk
monument moon morning mosque moth mother mountain mouse mouth movement mud muscle museum music name nation nature neck
needle neighbour nerve nest net network night noise north nose note novel number oak object ocean office officer oil
opera orbit orchestra order organ origin owner oxygen page pain paint painter painting pair palace palm panel paper
parent park parliament part partner party path patient pattern peace peak pen people pepper period person phase phone
photograph piano picture piece pilot pine pipe place plain planet plant plate plateau platform play player pocket poem
poet point poison pole pool population port portrait position pot potato powder power prayer president press price
priest prince prison prize problem process product profit project property prophet protein province pump purpose pyramid
quality quarter queen question rabbit race railway rain range rate ray reactor record reef region relation religion
report reptile research reserve reservoir rest result rice ring rise river road rock rocket role roof room root rope
route row rubber rule ruler sail sailor saint salt sand satellite scale school science scientist sculptor sculpture sea
season seat secret seed sense sentence servant service shade shadow shape share sheep sheet shell shelter ship shirt
shoe shore shoulder side sign silk silver singer sister site size skill skin sky slave sleep slope smell smoke snake
snow soap society soil soldier son song sound south space species speech speed spice spider spirit spring square stadium
staff stage stairs stamp star state station statue steam steel stem step stick stomach stone store storm story strait
stranger stream street string structure student study style subject substance sugar suit summer summit sun surface
survey swamp sword symbol symphony system table tail task taste tax tea teacher team telescope temperature temple test
text theatre theory thing thread throat throne ticket tide tiger timber time tin title tobacco tomb tongue tool tooth
top touch tower town trade tradition train transport travel treasure treaty tree trial tribe tribute trip trunk truth
tube tunnel turtle twin type uncle union unit universe university use valley value vault vegetable vehicle vein vessel
victory view village vine violin virus visitor voice volcano volume vote voyage wage wall war wave wax way wealth
weapon weather week weight west whale wheat wheel wife wild wind window wine wing winter wire witness wolf woman wood
wool word work worker world worm writer yard year youth zone
""".split()

# Nouns that a question of two hops asks for first ("the director of the museum"): none of them is a part of a thing.
LED_TO = frozenset("""
artist author boy brother capital captain child city company composer country daughter director doctor editor emperor
engineer father founder friend governor guard guide head home husband inventor island judge king lake leader library
machine maker man master mayor minister monk mother mountain museum owner painter parent partner person pilot place poet
president priest prince prophet queen river ruler sailor saint school scientist sculptor sea servant ship singer sister
slave soldier son student teacher town uncle university wife winner woman worker writer
""".split())  # fmt: skip

ADJECTIVES = """
able ancient annual Arctic average bare basic big bitter black blind blue bold brief bright broad broken brown busy calm
careful central cheap civil classical clean clear cold common complete complex cool coastal curved daily damp dark dead
deep dense different direct distant double dry early eastern electric elegant empty equal European exact famous fast
fertile few final fine first flat foreign formal former free fresh full further general gentle giant glass global
golden good gothic grand great green grey hard harsh heavy high historic hollow holy hot huge human important industrial
inner international iron joint key large largest last late lead lesser light little living local long longest lower main
major male marine massive medieval mild military minor modern molten mountainous narrow national native natural naval
near new noble northern notable novel official old oldest only open oral ordinary original outer pale particular past
permanent plain pleasant polar popular private proud public pure quick quiet rapid rare raw ready real recent red
regional regular religious remote rich rough round royal rural sacred safe salty second secret separate serious several
shallow sharp short silent silver simple single slender slight slow small smooth social soft solar solid southern
special stable steep still stone strange strict strong sudden suitable sweet tall tallest temporary thick thin third
tight tiny tropical true typical universal upper urban usual valuable vast warm weak western wet white whole wide
widespread wild wise wooden yellow young
""".split()

VERBS = """
accepted achieved acquired added adopted announced appeared applied appointed arranged arrived attacked attracted
awarded became began believed belonged bought broke brought built burned called captured carried carved caused changed
chose claimed cleared climbed closed collected combined commissioned compared completed composed conquered considered
consisted constructed contained continued controlled converted copied covered created crossed crowned cut damaged
declared decorated dedicated defeated defined delivered described designed destroyed developed devoted died directed
discovered displayed divided drew drove earned educated elected employed enclosed encouraged ended engraved entered
established estimated examined excavated exhibited expanded explained explored exported extended fed fell filled
finished fitted flew flooded flowed followed forced formed fought found founded gained gathered gave governed granted
grew guarded guided handed heated held helped hid hired honoured hosted hunted identified illustrated imported improved
included increased influenced inhabited inherited inspired installed introduced invented invited issued joined kept
killed knew launched led left lifted lined linked listed lived located loaded lost made maintained managed marked
married measured melted merged mined moved named needed noted observed obtained occupied occurred offered opened
operated ordered organised owned painted passed performed placed planned planted played pointed possessed praised
preserved presented produced promoted proposed proved provided published pulled pumped raised ranked reached rebuilt
received recorded recovered reduced reflected refused reigned released remained removed renamed repaired replaced
reported represented required rescued rested restored returned revealed rode rose ruled sailed sank saved scattered
selected sent separated served settled shaped shared shipped showed signed sold solved sought spanned spent split
sponsored spread stayed stood stopped stored stretched struck studied succeeded suffered suggested supplied supported
surrounded survived swept swam taught tested threatened threw tied took trained transferred translated travelled treated
trusted turned united used valued varied visited walked warned washed watched weighed welcomed went withdrew woke won
wore worked worshipped wrote
""".split()

ADVERBS = """
about again almost alone already also always apparently barely briefly carefully chiefly closely commonly directly early
easily entirely eventually exactly finally first formerly frequently fully generally gradually greatly hardly heavily
however indeed initially instead largely lately later locally long mainly mostly nearly never normally often once only
originally partly perhaps possibly probably quickly quietly rarely rather really recently roughly secretly shortly
simply slightly slowly sometimes soon steadily still strongly suddenly today together traditionally twice usually widely
""".split()

UNITS = """
metres kilometres miles feet kilograms tonnes litres hectares years days months hours minutes seconds degrees people
visitors students members rooms steps pages books species islands seats teeth eggs stars layers tokens bytes parameters
watts volts floors towers columns arches bells steps tracks stations pieces kinds bridges paintings letters
""".split()

LENGTHS = "metres feet kilometres miles m km centimetres inches yards".split()
AREAS = ("square kilometres", "square miles", "hectares", "acres", "km²", "square metres")
WEIGHTS = "kilograms tonnes tons grams pounds kg g ounces".split()

MONTHS = "January February March April May June July August September October November December".split()

COLOURS = "red blue green yellow white black grey brown orange pink purple golden silver scarlet".split()

BODIES = """
company school newspaper club institute museum party order society orchestra league bank church bureau academy team
hospital studio army union firm council committee navy
""".split()

ROLES = """
keeper guard doctor teacher judge mayor bishop pilot gardener cook editor translator engraver printer patron sponsor
conductor singer actor coach referee manager chairman secretary treasurer curator surveyor foreman mason carpenter smith
weaver brewer miller nurse friend rival pupil heir successor predecessor employer captain minister general admiral
governor chancellor president physician biographer illustrator producer librarian astronomer chemist
""".split()

FIRST_NAMES = """
Ada Adam Agnes Albert Alfred Alice Andrew Anna Anton Arthur Barbara Benjamin Bernard Bruno Carl Caroline Catherine
Charles Clara Daniel David Dorothy Edith Edmund Edward Eleanor Elena Elias Elizabeth Emil Emily Emma Eric Ernest Eva
Felix Ferdinand Florence Frances Frank Franz Frederick George Gertrude Grace Gustav Hannah Hans Harold Harriet Heinrich
Helen Henry Hermann Hugo Ida Igor Irene Isaac Isabella Ivan Jack Jacob James Jane Jean Johann John Joseph Julia Karl
Katherine Konrad Laura Leo Leonard Lewis Louis Louise Lucy Ludwig Margaret Maria Mark Martha Martin Mary Matthew Max
Michael Nicholas Nina Noam Nora Oliver Olga Oscar Otto Paul Peter Philip Rachel Ralph Rebecca Richard Robert Rosa Rudolf
Ruth Samuel Sarah Simon Sofia Stephen Susan Theodore Thomas Tim Ursula Victor Walter Wilhelm William
""".split()

SURNAMES = """
Abbott Adler Anderson Archer Bach Baker Barnes Bauer Becker Bell Bennett Berg Berger Bishop Black Bloch Bohm Braun Brooks
Brown Burke Butler Carter Chapman Clark Cole Collins Cook Cooper Cross Curtis Dawson Dietrich Dixon Douglas Dunn Eliot
Ellis Evans Ferrari Fischer Fletcher Fleming Foster Fox Franklin Fraser Gardner Gibson Gilbert Gordon Graham Grant Gray
Green Gruber Haas Hall Hamilton Hansen Harper Harris Hart Hayes Heller Hoffmann Holmes Hopper Howard Hudson Hughes Hunt
Huxley Jackson Jensen Johnson Jordan Keller Kelly King Klein Knight Koch Kraft Lang Larsen Lehmann Lewis Lind Lloyd
Marshall Mason Mendel Meyer Miller Mitchell Moore Morgan Morris Murray Nelson Newton Nielsen Novak Olsen Owen Palmer
Parker Pearson Perkins Porter Price Reed Richter Robinson Rogers Romano Rossi Russell Schmidt Schneider Scott Shaw
Simpson Spencer Stein Stewart Stone Strauss Sullivan Taylor Thompson Turner Vogel Wagner Walker Wallace Ward Watson
Weber Webster West White Wilson Winter Wolf Wood Wright Young Zimmermann
""".split()

ONSETS = "b bl br c ch cl cr d dr f fl fr g gl gr h j k kl kr l m n p ph pl pr q qu r s sc sh sk sl sn sp st str sw t th tr tw v w wh x y z".split()
VOWELS = "a e i o u a e i o u ai au ea ee ei eo ia ie io oa oi oo ou ua y".split()
CODAS = "b ck d f ft g k l ld ll lm ln lp lt m mp n nd ng nk nt p r rd rk rm rn rt s sh sk ss st t th tt v x z".split()
PLAIN_ONSETS = "b c d f g h j k l m n p r s t v w z b d l m n r s t br ch cr dr fr gr kl pl sh st th tr".split()
PLAIN_VOWELS = "a e i o u a e i o u ai ea ee ie oo ou".split()
PLAIN_CODAS = "n r l s m d t k n r l s nd nt rn st ld ck ll ss".split()
ENDINGS = """ton berg burg ford ham ville stad ia ova ski sen son land wick dale mouth port grad polis aux ini ano ez ito aki
ura eria""".split()
ACCENTED = "á é è ê í ó ö ü ñ ç ã å ø ä ł ś č ž ß ő ğ ş ý ū ō ì ò à".split()
# Letters that a reader of real prose meets now and then; each has to be copied byte by byte.
RARE = (
    "ÀÁÂÃÄÅÆÇÈÉÊËÌÍÎÏÐÑÒÓÔÕÖØÙÚÛÜÝÞßàáâãäåæçèéêëìíîïðñòóôõöøùúûüýþÿĀāĂăĄąĆćĈĉČčĎďĐđĒēĖėĘęĚěĞğĠġĢģĦħĨĩĪīĮįİıĶķĹĺĽľŁłŃńŅņ"
    "ŇňŌōŐőŒœŔŕŘřŚśŞşŠšŢţŤťŨũŪūŮůŰűŲųŴŵŶŷŸŹźŻżŽžȘșȚțảấầậắẽếềệịọốồộớờợủứừựỳ"
)
SCRIPTS = (
    "αβγδεζηθικλμνξοπρστυφχψωΑΓΔΘΛΣΦΨΩ",
    "абвгдежзийклмнопрстуфхцчшщыьэюяАБВГДКЛМНПРСТ",
    "あいうえおかきくけこさしすせそたちつてとアイウエオカキクケコ",
)


def made_up(rng: random.Random, syllables: int | None = None) -> str:
    """A lower-case word that does not exist: mostly one that English or its neighbours could have, else one of up to
    four syllables of any letters, with an accent now and then."""
    if rng.random() < 0.65:
        word = ""
        for index in range(syllables or rng.choices((1, 2, 3), (3, 5, 1))[0]):
            onset = rng.choice(PLAIN_ONSETS) if index == 0 or rng.random() < 0.9 else ""
            word += onset + rng.choice(PLAIN_VOWELS) + (rng.choice(PLAIN_CODAS) if rng.random() < 0.5 else "")
        return word if len(word) > 2 and word not in ("the", "each") else word + rng.choice(PLAIN_CODAS)
    count = syllables or rng.choices((1, 2, 3, 4), (2, 5, 3, 1))[0]
    word = ""
    for index in range(count):
        onset = rng.choice(ONSETS) if index == 0 or rng.random() < 0.85 else ""
        vowel = rng.choice(ACCENTED) if rng.random() < 0.03 else rng.choice(VOWELS)
        vowel = rng.choice(RARE).lower() if rng.random() < 0.015 else vowel
        coda = rng.choice(CODAS) if rng.random() < (0.75 if index == count - 1 else 0.35) else ""
        word += onset + vowel + coda
    return word if len(word) > 2 else word + rng.choice(CODAS)


def name(rng: random.Random) -> str:
    """A made-up word with a capital; some of its letters are rare, now and then."""
    word = made_up(rng)
    if rng.random() < 0.2:
        word = made_up(rng, 1) + rng.choice(ENDINGS)
    if rng.random() < 0.02:
        return rng.choice(RARE).upper()[0] + word
    if rng.random() < 0.02:  # letters that English has, in an order that it has not
        return "".join(rng.choice("aeioubcdfghjklmnpqrstvwxyz") for _ in range(rng.randint(4, 9))).capitalize()
    return word[0].upper() + word[1:]


def foreign(rng: random.Random) -> str:
    """A word in another script."""
    if rng.random() < 0.5:
        return "".join(chr(rng.randint(0x4E00, 0x9FA5)) for _ in range(rng.randint(1, 4)))
    return "".join(rng.choice(rng.choice(SCRIPTS)) for _ in range(rng.randint(2, 8)))


def person(rng: random.Random) -> str:
    """A made-up person: two names, with an initial, a title or a particle now and then."""
    real = rng.random()  # names whose pieces are words
    first = rng.choice(FIRST_NAMES) if real < 0.45 else name(rng)
    last = rng.choice(SURNAMES) if real < 0.3 else name(rng)
    form = rng.random()
    if form < 0.5:
        return f"{first} {last}"
    if form < 0.58:
        middle = rng.choice((rng.choice(FIRST_NAMES), rng.choice(SURNAMES), name(rng)))
        return f"{first} {middle} {last}"
    if form < 0.62:
        end = rng.choice(("I", "II", "III", "IV", "the Great", f"of {name(rng)}", f"the {rng.choice(ADJECTIVES)}"))
        return f"{first} {end}"
    if form < 0.72:
        return f"{first} {rng.choice('ABCDEFGHJKLMNPRSTVW')}. {last}"
    if form < 0.80:
        return f"{rng.choice('ABCDEFGHJKLMNPRSTVW')}. {rng.choice('ABCDEFGHJKLMNPRSTVW')}. {last}"
    if form < 0.88:
        return f"{rng.choice(('Dr.', 'Sir', 'King', 'Queen', 'Saint', 'Professor', 'St.'))} {first} {last}"
    if form < 0.94:
        particle = rng.choice(("van", "de", "von", "da", "al", "del", "van der", "de la", "di", "Le", "bin"))
        return f"{first} {particle} {last}"
    if form < 0.96:
        return f"{first} {rng.choice(('Mc', 'Mac', 'O’', 'O' + chr(39), 'D' + chr(39)))}{last}"
    return f"{first} {last}-{name(rng)}"


def number(rng: random.Random) -> str:
    """A number as prose writes it: 7, 48, 1,230, 3.5, 12 million, forty-two."""
    form = rng.random()
    if form < 0.3:
        return str(rng.randint(2, 99))
    if form < 0.5:
        return str(rng.randint(100, 999))
    if form < 0.7:
        return f"{rng.randint(1000, 999999):,}"
    if form < 0.82:
        return f"{rng.randint(0, 99)}.{rng.randint(1, 9) if rng.random() < 0.7 else rng.randint(10, 99)}"
    if form < 0.92:
        return f"{rng.randint(2, 900)} {rng.choice(('million', 'billion', 'thousand'))}"
    return rng.choice(
        "two three four five six seven eight nine ten eleven twelve fifteen twenty thirty-two forty-two sixty hundred".split()
    )


def quantity(rng: random.Random) -> str:
    """A number with a unit, a percentage, or a sum of money."""
    form = rng.random()
    if form < 0.85:
        return f"{number(rng)} {rng.choice(UNITS)}"
    if form < 0.93:
        return f"{number(rng)} {rng.choice(('percent', '%', 'per cent'))}".replace(" %", "%")
    return f"${number(rng)}"


def money(rng: random.Random) -> str:
    """A sum."""
    amount = number(rng)
    return rng.choice((f"${amount}", f"£{amount}", f"€{amount}", f"{amount} dollars", f"{amount} francs",
                       f"{amount} pounds", f"{amount} crowns", f"{amount} euros"))  # fmt: skip


def year(rng: random.Random) -> str:
    return str(rng.randint(1000, 2029))


def day(rng: random.Random) -> str:
    """A date: a year, a month and year, or a full one in either order."""
    form = rng.random()
    if form < 0.4:
        return year(rng)
    if form < 0.6:
        return f"{rng.choice(MONTHS)} {year(rng)}"
    if form < 0.8:
        return f"{rng.randint(1, 31)} {rng.choice(MONTHS)} {year(rng)}"
    return f"{rng.choice(MONTHS)} {rng.randint(1, 31)}, {year(rng)}"
