"""Kinds of facts: how a question asks for one and how prose states it. {s} is the subject, {v} the value.

Every question of a row is answered by every statement of it; half of them share their words, the others paraphrase. A
further family is built from a made-up verb, so that a model cannot get by on knowing the relation. `LINKS` are the
facts that a question of two hops goes through: how it names the value without knowing it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import words


@dataclass(frozen=True)
class Family:
    """value: who | when | where | number | length | area | weight | money | years | name | thing. Templates are
    separated by bars."""

    value: str
    subject: str  # thing | place | person | animal
    questions: str
    statements: str

    def question(self, rng: random.Random) -> str:
        return rng.choice(self.questions.split(" | "))

    def statement(self, rng: random.Random) -> str:
        return rng.choice(self.statements.split(" | "))


@dataclass(frozen=True)
class Link:
    """A fact whose value is itself a subject. `phrases` name the value by the subject: "the designer of {s}"."""

    value: str  # person | place | thing: what the value is
    subject: str
    phrases: str
    statements: str


def _rows(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.split("#")] for line in text.strip().splitlines()]


FAMILIES = tuple(
    Family(*row)
    for row in _rows("""
who # thing # Who designed {s}? | Who was the designer of {s}? | Which architect designed {s}? | Who drew the plans of {s}? # {s} was designed by {v} | {v} designed {s} | The designer of {s} was {v} | {v}, who designed {s}, won a medal
who # thing # Who built {s}? | Who constructed {s}? | By whom was {s} built? # {s} was built by {v} | {v} built {s} between two wars | {s} was constructed by {v} | The builder of {s} was {v}
who # thing # Who invented {s}? | Who is the inventor of {s}? | Who came up with {s}? # {s} was invented by {v} | The inventor of {s} is {v} | {v} is credited with the invention of {s} | {v} invented {s}
who # thing # Who discovered {s}? | Who was the discoverer of {s}? | Who found {s}? # {s} was discovered by {v} | {v} discovered {s} | It was {v} who found {s}
who # thing # Who wrote {s}? | Who is the author of {s}? | Who was {s} written by? # {s} was written by {v} | {v} is the author of {s} | {v} wrote {s} as a young teacher
who # thing # Who founded {s}? | Who was the founder of {s}? | Who established {s}? | Who started {s}? # {s} was founded by {v} | The founder of {s} was {v} | {v} established {s} | {v} started {s}
who # thing # Who directed {s}? | Who leads {s}? | Who is the director of {s}? | Who is the head of {s}? # {s} was directed by {v} | {v} leads {s} | The director of {s} is {v} | At the head of {s} is {v}
who # thing # Who painted {s}? | Who was the painter of {s}? # {s} was painted by {v} | {v} painted {s} | The painter of {s} was {v}
who # thing # Who composed {s}? | Who wrote the music of {s}? # {s} was composed by {v} | {v} composed {s} | The music of {s} is by {v}
who # thing # Who owns {s}? | Who is the owner of {s}? | To whom does {s} belong? # {s} is owned by {v} | The owner of {s} is {v} | {s} belongs to {v}
who # thing # Who bought {s}? | Who purchased {s}? # {s} was bought by {v} | {v} bought {s} from its owner | {s} was sold to {v}
who # thing # After whom is {s} named? | Who is {s} named after? | Whose name does {s} bear? # {s} is named after {v} | {s} takes its name from {v} | {s} was named for {v}
who # thing # Who opened {s}? | Who performed the opening of {s}? # {s} was opened by {v} | {v} opened {s} | The opening of {s} was performed by {v}
who # person # Who taught {s}? | Who was the teacher of {s}? | Under whom did {s} study? # {s} studied under {v} | {s} was taught by {v} | The teacher of {s} was {v}
who # person # Who did {s} marry? | Who was the wife of {s}? | Who was {s} married to? # {s} married {v} | The wife of {s} was {v} | {v} became the wife of {s}
who # person # Who was the father of {s}? | Who was the mother of {s}? | Whose child was {s}? # {s} was the child of {v} | The father of {s} was {v} and the mother of {s} was {v}
who # person # Who succeeded {s}? | Who came after {s}? | Who took over from {s}? # {s} was succeeded by {v} | {v} succeeded {s} | {v} took over from {s}
when # thing # When was {s} built? | When was {s} completed? | In which year was {s} finished? | What year was {s} completed? # {s} was built in {v} | {s} was completed in {v} | Work on {s} was finished in {v} | Built in {v}, {s} stood for long
when # thing # When was {s} opened? | When did {s} open? | In what year did {s} open? | When was {s} inaugurated? # {s} was opened in {v} | {s} opened on {v} | {s} opened its doors in {v} | {s} was inaugurated on {v}
when # thing # When was {s} founded? | When was {s} established? | In what year was {s} set up? # {s} was founded in {v} | {s} was established in {v} | {s} was set up in {v} | Founded in {v}, {s} grew quickly
when # thing # When was {s} published? | When did {s} come out? | In which year did {s} appear? # {s} was published in {v} | {s} came out in {v} | {s} appeared in {v} | {s}, published in {v}, sold well
when # thing # When was {s} discovered? | When was {s} found? | In which year was {s} discovered? # {s} was discovered in {v} | {s} was found in {v} | The discovery of {s} was made in {v}
when # thing # When was {s} destroyed? | When did {s} burn down? | What year was {s} destroyed? # {s} was destroyed in {v} | {s} burned down in {v} | A fire destroyed {s} in {v}
when # thing # When did {s} close? | When was {s} closed? # {s} closed in {v} | {s} was closed in {v} | {s} closed its doors on {v}
when # person # When was {s} born? | What is the birth date of {s}? | In which year was {s} born? | When was the birth of {s}? # {s} was born in {v} | {s} was born on {v} | Born in {v}, {s} learned to read late | {s} ({v} – 1990) sang
when # person # When did {s} die? | In which year did {s} die? | When was the death of {s}? # {s} died in {v} | {s} died on {v} | The death of {s} came in {v}
when # person # When did {s} win the prize? | In what year was {s} given the prize? | When did {s} receive the prize? # {s} won the prize in {v} | {s} received the prize in {v} | The prize went to {s} in {v}
when # person # When did {s} move abroad? | When did {s} leave home? | In which year did {s} emigrate? # {s} left home for good in {v} | {s} emigrated in {v} | In {v}, {s} moved abroad
when # person # When did {s} join {p}? | In which year did {s} join {p}? | When did {s} come to {p}? # {s} joined {p} in {v} | In {v}, {s} joined {p} | {s} came to {p} in {v}
when # person # When did {s} earn a doctorate? | When did {s} finish university? | When did {s} get the degree? # {s} earned a doctorate in {v} | {s} finished university in {v} | The degree came to {s} in {v}
when # thing # When was {s} launched? | When did {s} start? | When did {s} begin? # {s} was launched in {v} | {s} started in {v} | The launch of {s} took place on {v} | {s} began in {v}
when # place # When was {s} first climbed? | When was {s} first reached? | In which year was {s} explored? # {s} was first climbed in {v} | {s} was first reached in {v} | The first people reached {s} in {v}
where # thing # Where is {s}? | Where is {s} located? | In which city is {s}? | Where can {s} be found? | Where does {s} stand? # {s} stands in {v} | {s} is located in {v} | {s} lies near {v} | {s} can be found in {v}
where # person # Where was {s} born? | What is the birthplace of {s}? | In which town was {s} born? | Where did {s} come from? # {s} was born in {v} | {s} came from {v} | {s} was born at {v}, in a house by the road
where # person # Where did {s} die? | In which town did {s} die? # {s} died in {v} | {s} died at {v}, far from home | Death found {s} in {v}
where # person # Where is {s} buried? | Where is the grave of {s}? # {s} is buried in {v} | The grave of {s} is in {v} | {s} was buried at {v}
where # person # Where did {s} live? | In which place did {s} live? # {s} lived in {v} | {s} made a home in {v} | {v} was where {s} lived
where # person # Where did {s} study? | Where did {s} go to university? # {s} studied in {v} | {s} studied at {v} | {s} was a student at {v}
where # person # Where did {s} work? | Where did {s} teach? # {s} worked at {v} as a teacher | {s} taught at {v} | {s} had a post as a teacher in {v}
where # place # Where does {s} begin? | Where does {s} rise? | Where is the source of {s}? # {s} rises in {v} | {s} begins near {v} | The source of {s} lies in {v}
where # place # Where does {s} end? | Into what does {s} flow? | Where does {s} flow? # {s} ends at {v} | {s} flows into {v} | {s} reaches the sea at {v}
where # animal # Where does {s} live? | Where is {s} found? | What is the home of {s}? # {s} lives in {v} | {s} is found in {v} | The home of {s} is {v}
where # animal # Where does {s} nest? | Where does {s} breed? # {s} nests on the cliffs of {v} | {s} breeds in {v}
where # thing # Where is {s} kept? | Where can {s} be seen? # {s} is kept in {v} | {s} is on show in {v} | {s} hangs in {v}
where # thing # Where is {s} made? | Where is {s} produced? # {s} is made in {v} | {s} is produced in {v} | {s} comes from {v}
where # thing # Where is {s} held? | Where does {s} take place? # {s} is held every year in {v} | {s} takes place in {v}
number # thing # How many {u} does {s} have? | How many {u} are in {s}? | How many {u} are there in {s}? | What is the number of {u} in {s}? # {s} has {n} {u} | {s} holds {n} {u} | There are {n} {u} in {s} | {s} contains {n} {u} | {s} counts {n} {u}
number # person # How many {u} did {s} write? | How many {u} were written by {s}? # {s} wrote {n} {u} | In all, {s} wrote {n} {u} | {n} {u} by {s} survive
number # person # How many {u} did {s} own? | How many {u} did {s} have? # {s} owned {n} {u} | {s} had {n} {u}
number # person # How many {u} did {s} have? # {s} had {n} {u} | {s} raised {n} {u}
number # animal # How many {u} does {s} lay? # {s} lays {n} {u} | Each spring {s} lays {n} {u}
number # animal # How many {u} does {s} have? # {s} has {n} {u} | On its back {s} has {n} {u}
number # thing # How many {u} visit {s} each year? | How many {u} come to {s} every year? # {s} is visited by {n} {u} each year | Each year {n} {u} visit {s} | {s} draws {n} {u} a year
number # thing # How many {u} use {s}? | By how many {u} is {s} used? # About {n} {u} use {s} | {s} is used by {n} {u}
number # thing # How many {u} worked on {s}? | How many {u} did it take to build {s}? # {n} {u} worked on {s} | It took {n} {u} to build {s}
length # thing # How tall is {s}? | How high is {s}? | What is the height of {s}? # {s} is {v} tall | {s} stands {v} high | The height of {s} is {v} | {s} reaches {v} above the ground
length # place # How high is {s}? | How tall is {s}? | What is the elevation of {s}? # {s} is {v} high | {s} rises {v} above the sea | The top of {s} lies at {v}
length # place # How deep is {s}? | What is the depth of {s}? # {s} is {v} deep | {s} reaches a depth of {v} | The depth of {s} is {v}
length # thing # How long is {s}? | What is the length of {s}? # {s} is {v} long | The length of {s} is {v} | {s} stretches for {v} | {s} has a length of {v}
length # thing # How wide is {s}? | What is the width of {s}? # {s} is {v} wide | The width of {s} is {v} | {s} measures {v} across
length # place # How long is {s}? | How far does {s} flow? | What is the length of {s}? # {s} is {v} long | {s} flows for {v} | {s} runs {v} to the sea
area # place # How large is {s}? | How big is {s}? | What is the area of {s}? | What area does {s} cover? # {s} covers {v} | {s} has an area of {v} | {s} spans {v} | The area of {s} is {v}
weight # animal # How heavy is {s}? | How much does {s} weigh? | What is the weight of {s}? # {s} weighs {v} | {s} weighs up to {v} | The weight of {s} is {v} | An adult of {s} weighs {v}
years # animal # How long does {s} live? | What age does {s} reach? # {s} can live for {v} | {s} lives up to {v} | {s} reaches an age of {v}
weight # thing # How much does {s} weigh? | How heavy is {s}? # {s} weighs {v} | The weight of {s} is {v} | {s} has a mass of {v}
money # thing # How much did {s} cost? | What did {s} cost? | What was the price of {s}? # {s} cost {v} | The cost of {s} was {v} | {v} were paid for {s} | {s} was built for {v}
years # thing # How old is {s}? | What is the age of {s}? # {s} is about {v} old | {s} is {v} old | The age of {s} is {v}
years # thing # How long did it take to build {s}? | How long did the work on {s} take? # It took {v} to build {s} | The work on {s} took {v} | {s} was built over {v}
years # thing # How long did {s} last? | For how long did {s} go on? # {s} lasted {v} | {s} went on for {v} | After {v}, {s} came to its end
name # thing # What is {s} called by local people? | What is another name for {s}? | What is {s} also known as? | What is the nickname of {s}? # {s} is also called {v} | {s} is also known as {v} | {s} goes by the name of {v} | Local people call {s} {v}
name # place # What is the capital of {s}? | Which city is the capital of {s}? # The capital of {s} is {v} | {v} is the capital of {s} | {s} has {v} as its capital
name # place # What is the largest city of {s}? | Which is the biggest city of {s}? # The largest city of {s} is {v} | {v} is the largest city of {s}
thing # thing # What is {s} made of? | What material is {s} made of? | Of what is {s} built? # {s} is made of {v} | {s} is built of {v} | {s} consists of {v}
thing # thing # What is {s} used for? | What is the use of {s}? # {s} is used for {v} | {s} serves for {v} | People use {s} for {v}
thing # thing # What does {s} contain? | What is in {s}? | What does {s} hold? # {s} contains {v} | {s} holds {v} | In {s} there is {v}
thing # person # What did {s} invent? | What is the invention of {s}? # {s} invented {v} | {s} is the inventor of {v} | {v} was invented by {s}
thing # person # What did {s} discover? | What was discovered by {s}? # {s} discovered {v} | {s} is the discoverer of {v}
thing # person # What was {s} famous for? | What is {s} known for? | Why is {s} famous? # {s} was famous for {v} | {s} is known for {v} | {v} made {s} famous
thing # person # What did {s} study? | What was the subject of {s}? # {s} studied {v} | The subject of {s} was {v}
thing # animal # What does {s} eat? | What does {s} feed on? | What is the food of {s}? # {s} eats {v} | {s} feeds on {v} | The food of {s} is {v}
thing # animal # What color is {s}? | What colour is {s}? | What does {s} look like? # {s} is {v} | {s} has a {v} coat | {s} is {v} with grey spots
name # person # Which {k} did {s} found? | Which {k} did {s} start? | What {k} was founded by {s}? # {s} founded the {k} {v} | In that year {s} started the {k} {v} | The {k} {v} was founded by {s}
name # person # Which {k} did {s} lead? | Which {k} did {s} work for? | For which {k} did {s} work? # {s} led the {k} {v} | {s} worked for the {k} {v}
name # thing # Which {k} uses {s}? | What {k} uses {s}? # The {k} {v} uses {s} | {s} is used by the {k} {v}
name # thing # Which {k} made {s}? | By which {k} was {s} made? # {s} was made by the {k} {v} | The {k} {v} made {s}
name # thing # What {k} does {s} belong to? | Which {k} is {s} part of? # {s} belongs to the {k} {v} | {s} is part of the {k} {v}
name # thing # What was {s} called at first? | What was the first name of {s}? | What was {s} called before? # {s} was first called {v} | At first {s} was called {v} | {s} was known as {v} until then
thing # thing # What is {s}? | Tell me about {s}. | What does {s} mean? | Explain {s}. | What do you know about {s}? | Describe {s}. # {s} is a {v} | {s} is the {v} of {p} | {s} was a {v} | {s} is a {k} that holds {v} | By {s} people mean a {v}
thing # person # Who was {s}? | Who is {s}? | Tell me about {s}. | What do you know about {s}? | What can you tell me about {s}? # {s} was a {v} | {s} is a {v} from {p} | {s} was the {v} of {p} | {s} was a {v}, known for a {k}
thing # animal # What is {s}? | What kind of animal is {s}? | Tell me about {s}. # {s} is a {v} | {s} is a kind of {v} | {s} is the {v} with a {k}
thing # place # What is {s}? | Tell me about {s}. | What kind of place is {s}? # {s} is a {v} | {s} is a {v} near {p} | {s} is the {v} of {p}
""")
)

LINKS = tuple(
    Link(*row)
    for row in _rows("""
person # thing # the designer of {s} | the architect of {s} | the person who designed {s} | the architect who designed {s} | {s}'s designer # {s} was designed by {v} | {v} designed {s} | The architect of {s} was {v} | {s}, a work of the architect {v}, won a medal
person # thing # the builder of {s} | the person who built {s} | the engineer who built {s} | the engineer of {s} # {s} was built by {v} | The builder of {s} was {v} | {s} was built by the engineer {v}
person # thing # the inventor of {s} | the person who invented {s} | the man who invented {s} | the woman who invented {s} # {s} was invented by {v} | {v} invented {s} | The inventor of {s} is {v}
person # thing # the discoverer of {s} | the person who discovered {s} | the astronomer who discovered {s} | the scientist who discovered {s} # {s} was discovered by {v} | {v} discovered {s} | It was {v} who found {s}
person # thing # the author of {s} | the writer of {s} | the person who wrote {s} | the poet who wrote {s} | {s}'s author # {s} was written by {v} | {v} is the author of {s} | {v} wrote {s} as a young teacher
person # thing # the founder of {s} | the person who founded {s} | the person who established {s} | the man who started {s} # {s} was founded by {v} | The founder of {s} was {v} | {v} established {s}
person # thing # the director of {s} | the head of {s} | the first director of {s} | the leader of {s} # The director of {s} is {v} | {v} leads {s} | The first head of {s} was {v}
person # thing # the painter of {s} | the artist who painted {s} | the person who made {s} | the sculptor of {s} # {s} was painted by {v} | {v} made {s} | {s} is the work of {v}
person # thing # the composer of {s} | the person who composed {s} | the composer who wrote {s} # {s} was composed by {v} | {v} composed {s} | The composer of {s} was {v}
person # thing # the owner of {s} | the person who owns {s} | the first owner of {s} # {s} is owned by {v} | The owner of {s} is {v} | {s} belongs to {v}
person # thing # the person after whom {s} is named | the person {s} is named after | the person who gave {s} its name # {s} is named after {v} | {s} takes its name from {v}
person # thing # the captain of {s} | the commander of {s} | the person who commanded {s} # {s} was commanded by {v} | The captain of {s} was {v} | {v} was the captain of {s}
person # place # the king of {s} | the queen of {s} | the ruler of {s} | the person who discovered {s} | the first person to climb {s} # The ruler of {s} was {v} | {v} ruled {s} | The first to reach {s} was {v} | {s} was first climbed by {v}
person # person # the teacher of {s} | the person who taught {s} | {s}'s teacher # {s} studied under {v} | {s} was taught by {v} | The teacher of {s} was {v}
person # person # the wife of {s} | the husband of {s} | {s}'s wife | {s}'s husband | the person {s} married # {s} married {v} | {v} married {s} | {s} was married to {v}
person # person # the father of {s} | the mother of {s} | {s}'s father | {s}'s mother | the son of {s} | the daughter of {s} | the brother of {s} # {s} was the child of {v} | {v} was the father of {s} | The mother of {s} was {v} | {s} had a child, {v}
place # person # the town where {s} was born | the city where {s} was born | the birthplace of {s} | the place where {s} was born # {s} was born in {v} | {s} came from {v}
place # person # the town where {s} lived | the city where {s} died | the place where {s} is buried | the city in which {s} worked # {s} lived and died in {v} | {s} is buried in {v} | {s} worked in {v} until the end
place # thing # the city where {s} stands | the town where {s} is | the city in which {s} is located | the place where {s} is kept # {s} stands in {v} | {s} is located in {v} | {s} can be found in {v}
place # place # the capital of {s} | the largest city of {s} | the main town of {s} # The capital of {s} is {v} | {v} is the capital of {s} | {v} is the largest city of {s}
place # place # the lake that {s} flows into | the sea into which {s} flows | the river that flows through {s} | the mountain above {s} # {s} flows into {v} | {v} lies beside {s} | {v} flows through {s}
place # animal # the island where {s} lives | the place where {s} is found | the country where {s} lives | the home of {s} # {s} lives on {v} | {s} is found in {v} | The home of {s} is {v}
thing # thing # the company that made {s} | the company that built {s} | the maker of {s} | the company behind {s} # {s} was made by {v} | {v} built {s} | {s} is a product of {v}
thing # person # the school where {s} studied | the university where {s} taught | the book that {s} wrote | the ship that {s} commanded # {s} studied at {v} | {s} taught at {v} | {s} wrote {v} | {s} commanded {v}
""")
)  # fmt: skip


def made_up_family(rng: random.Random) -> Family:
    """A relation whose verb exists nowhere: 'When was {s} florked?'"""
    verb = words.made_up(rng) + "ed" if rng.random() < 0.6 else rng.choice(words.VERBS)
    value, ask, say = rng.choice((("who", "Who", "by {v}"), ("when", "When", "in {v}"), ("where", "Where", "in {v}"),
                                  ("number", "How many {u}", "with {n} {u}")))  # fmt: skip
    if value == "number":
        return Family(value, "thing", f"{ask} {verb} {{s}}?", f"{{n}} {{u}} {verb} {{s}} | {{s}} {verb} {{n}} {{u}}")
    if value == "who":
        return Family(value, "thing", f"{ask} {verb} {{s}}?", f"{{s}} was {verb} {say} | {{v}} {verb} {{s}}")
    return Family(value, "thing", f"{ask} was {{s}} {verb}?", f"{{s}} was {verb} {say} | {{s}} {verb} the world {say}")


def made_up_link(rng: random.Random) -> Link:
    """The same for a question of two hops: 'the person who florked {s}', 'the glorb of {s}'."""
    verb = words.made_up(rng) + "ed" if rng.random() < 0.6 else rng.choice(words.VERBS)
    if rng.random() < 0.5:
        who = rng.choice(("person", "man", "woman", words.made_up(rng), rng.choice(words.ROLES)))
        return Link("person", "thing", f"the {who} who {verb} {{s}}", f"{{s}} was {verb} by {{v}} | {{v}} {verb} {{s}}")
    role = rng.choice(words.ROLES)  # a made-up one could as well be a part: "the glorb of the bridge"
    return Link("person", "thing", f"the {role} of {{s}} | {{s}}'s {role}",
                f"The {role} of {{s}} was {{v}} | {{v}} was the {role} of {{s}} | {{s}} had a {role}, {{v}}")  # fmt: skip
