"""Kinds of facts: how a question asks for one and how prose states it. {s} is the subject, {v} the value.

Every question of a row is answered by every statement of it; half of them share their words, the others paraphrase. A
further family is built from a made-up verb, so that a model cannot get by on knowing the relation. `LINKS` are the
facts that a question of two hops goes through: how it names the value without knowing it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import words
from .subjects import kinds


@dataclass(frozen=True)
class Family:
    """value: who | when | where | number | length | area | weight | money | years | colour | name | thing. Templates are
    separated by bars."""

    value: str
    subject: str  # kinds of subjects or groups of them, with spaces between
    questions: str
    statements: str

    def question(self, rng: random.Random) -> str:
        return rng.choice(self.questions.split(" | "))

    @property
    def describes(self) -> bool:
        """Whether its questions ask what the subject is, and nothing about it."""
        return "Tell me about" in self.questions

    def statement(self, rng: random.Random) -> str:
        return rng.choice(self.statements.split(" | "))


@dataclass(frozen=True)
class Link:
    """A fact whose value is itself a subject. `phrases` name the value by the subject: "the designer of {s}"."""

    value: str  # the kind of subject that the value is
    subject: str
    phrases: str
    statements: str


def _rows(text: str) -> list[list[str]]:
    return [[part.strip() for part in line.split("#")] for line in text.strip().splitlines()]


FAMILIES = tuple(
    Family(*row)
    for row in _rows("""
who # building device ship # Who designed {s}? | Who was the designer of {s}? | Which architect designed {s}? | Who drew the plans of {s}? # {s} was designed by {v} | {v} designed {s} | The designer of {s} was {v} | {v}, who designed {s}, won a medal
who # building ship device # Who built {s}? | Who constructed {s}? | By whom was {s} built? # {s} was built by {v} | {v} built {s} between two wars | {s} was constructed by {v} | The builder of {s} was {v}
who # device # Who invented {s}? | Who is the inventor of {s}? | Who came up with {s}? # {s} was invented by {v} | The inventor of {s} is {v} | {v} is credited with the invention of {s} | {v} invented {s}
who # animal sea land # Who discovered {s}? | Who was the discoverer of {s}? | Who found {s}? # {s} was discovered by {v} | {v} discovered {s} | It was {v} who found {s}
who # book software # Who wrote {s}? | Who is the author of {s}? | Who was {s} written by? # {s} was written by {v} | {v} is the author of {s} | {v} wrote {s} as a young teacher
who # body town # Who founded {s}? | Who was the founder of {s}? | Who established {s}? | Who started {s}? # {s} was founded by {v} | The founder of {s} was {v} | {v} established {s} | {v} started {s}
who # body # Who directed {s}? | Who leads {s}? | Who is the director of {s}? | Who is the head of {s}? # {s} was directed by {v} | {v} leads {s} | The director of {s} is {v} | At the head of {s} is {v}
who # art # Who painted {s}? | Who was the painter of {s}? # {s} was painted by {v} | {v} painted {s} | The painter of {s} was {v}
who # music # Who composed {s}? | Who wrote the music of {s}? # {s} was composed by {v} | {v} composed {s} | The music of {s} is by {v}
who # building ship art # Who owns {s}? | Who is the owner of {s}? | To whom does {s} belong? # {s} is owned by {v} | The owner of {s} is {v} | {s} belongs to {v}
who # building ship art book # Who bought {s}? | Who purchased {s}? # {s} was bought by {v} | {v} bought {s} from its owner | {s} was sold to {v}
who # thing place animal # After whom is {s} named? | Who is {s} named after? | Whose name does {s} bear? # {s} is named after {v} | {s} takes its name from {v} | {s} was named for {v}
who # building # Who opened {s}? | Who performed the opening of {s}? # {s} was opened by {v} | {v} opened {s} | The opening of {s} was performed by {v}
who # person # Who taught {s}? | Who was the teacher of {s}? | Under whom did {s} study? # {s} studied under {v} | {s} was taught by {v} | The teacher of {s} was {v}
who # person # Who did {s} marry? | Who was the wife of {s}? | Who was {s} married to? # {s} married {v} | The wife of {s} was {v} | {v} became the wife of {s}
who # person # Who was the father of {s}? | Who was the mother of {s}? | Whose child was {s}? # {s} was the child of {v} | {v} had a child, {s} | {s} grew up as the child of {v}
who # person # Who succeeded {s}? | Who came after {s}? | Who took over from {s}? # {s} was succeeded by {v} | {v} succeeded {s} | {v} took over from {s}
when # building ship # When was {s} built? | When was {s} completed? | In which year was {s} finished? | What year was {s} completed? # {s} was built in {v} | {s} was completed in {v} | Work on {s} was finished in {v} | Built in {v}, {s} stood for long
when # building # When was {s} opened? | When did {s} open? | In what year did {s} open? | When was {s} inaugurated? # {s} was opened in {v} | {s} opened on {v} | {s} opened its doors in {v} | {s} was inaugurated on {v}
when # body town # When was {s} founded? | When was {s} established? | In what year was {s} set up? # {s} was founded in {v} | {s} was established in {v} | {s} was set up in {v} | Founded in {v}, {s} grew quickly
when # book music software # When was {s} published? | When did {s} come out? | In which year did {s} appear? # {s} was published in {v} | {s} came out in {v} | {s} appeared in {v} | {s}, published in {v}, sold well
when # animal sea land # When was {s} discovered? | When was {s} found? | In which year was {s} discovered? # {s} was discovered in {v} | {s} was found in {v} | The discovery of {s} was made in {v}
when # building art town # When was {s} destroyed? | When did {s} burn down? | What year was {s} destroyed? # {s} was destroyed in {v} | {s} burned down in {v} | A fire destroyed {s} in {v}
when # building body # When did {s} close? | When was {s} closed? # {s} closed in {v} | {s} was closed in {v} | {s} closed its doors on {v}
when # person # When was {s} born? | What is the birth date of {s}? | In which year was {s} born? | When was the birth of {s}? # {s} was born in {v} | {s} was born on {v} | Born in {v}, {s} learned to read late | {s} ({v} – 1990) sang
when # person # When did {s} die? | In which year did {s} die? | When was the death of {s}? # {s} died in {v} | {s} died on {v} | The death of {s} came in {v}
when # person # When did {s} win the prize? | In what year was {s} given the prize? | When did {s} receive the prize? # {s} won the prize in {v} | {s} received the prize in {v} | The prize went to {s} in {v}
when # person # When did {s} move abroad? | When did {s} leave home? | In which year did {s} emigrate? # {s} left home for good in {v} | {s} emigrated in {v} | In {v}, {s} moved abroad
when # person # When did {s} join {p}? | In which year did {s} join {p}? | When did {s} come to {p}? # {s} joined {p} in {v} | In {v}, {s} joined {p} | {s} came to {p} in {v}
when # person # When did {s} finish university? | In which year did {s} leave university? # {s} finished university in {v} | In {v}, {s} left university
when # ship software event prize # When was {s} launched? | When did {s} start? | When did {s} begin? # {s} was launched in {v} | {s} started in {v} | The launch of {s} took place on {v} | {s} began in {v}
when # mountain # When was {s} first climbed? | In which year was {s} first climbed? | When did people first reach the top of {s}? # {s} was first climbed in {v} | The first people reached the top of {s} in {v} | The top of {s} was first reached in {v}
where # building body # Where is {s}? | Where is {s} located? | Where can {s} be found? | Where does {s} stand? # {s} stands in {v} | {s} is located in {v} | {s} lies near {v} | {s} can be found in {v}
where # person # Where was {s} born? | What is the birthplace of {s}? | In which town was {s} born? | Where did {s} come from? # {s} was born in {v} | {s} came from {v} | {s} was born at {v}, in a house by the road
where # person # Where did {s} die? | In which town did {s} die? # {s} died in {v} | {s} died at {v}, far from home | Death found {s} in {v}
where # person # Where is {s} buried? | Where is the grave of {s}? # {s} is buried in {v} | The grave of {s} is in {v} | {s} was buried at {v}
where # person # Where did {s} live? | In which place did {s} live? # {s} lived in {v} | {s} made a home in {v} | {v} was where {s} lived
where # person # Where did {s} study? | Where did {s} go to university? # {s} studied in {v} | {s} studied at {v} | {s} was a student at {v}
where # person # Where did {s} work? | Where did {s} teach? # {s} worked at {v} as a teacher | {s} taught at {v} | {s} had a post as a teacher in {v}
where # river # Where does {s} begin? | Where does {s} rise? | Where is the source of {s}? # {s} rises in {v} | {s} begins near {v} | The source of {s} lies in {v}
where # river # Where does {s} end? | Into what does {s} flow? | Where does {s} flow? # {s} ends at {v} | {s} flows into {v}
where # animal # Where does {s} live? | Where is {s} found? | What is the home of {s}? # {s} lives in {v} | {s} is found in {v} | The home of {s} is {v}
where # animal # Where does {s} nest? | Where does {s} breed? # {s} nests on the cliffs of {v} | {s} breeds in {v}
where # art book device # Where is {s} kept? | Where can {s} be seen? # {s} is kept in {v} | {s} is on show in {v}
where # device # Where is {s} made? | Where is {s} produced? # {s} is made in {v} | {s} is produced in {v} | {s} comes from {v}
where # event # Where is {s} held? | Where does {s} take place? # {s} is held every year in {v} | {s} takes place in {v}
number # building body ship town book # How many {u} does {s} have? | How many {u} are in {s}? | How many {u} are there in {s}? | What is the number of {u} in {s}? # {s} has {n} {u} | {s} holds {n} {u} | There are {n} {u} in {s} | {s} contains {n} {u} | {s} counts {n} {u}
number # person # How many {u} did {s} write? | How many {u} were written by {s}? # {s} wrote {n} {u} | In all, {s} wrote {n} {u} | {n} {u} were written by {s}
number # person # How many {u} did {s} own? | How many {u} did {s} have? # {s} owned {n} {u} | {s} had {n} {u}
number # person # How many {u} did {s} have? # {s} had {n} {u} | {s} raised {n} {u}
number # animal # How many {u} does {s} lay? # {s} lays {n} {u} | Each spring {s} lays {n} {u}
number # animal # How many {u} does {s} have? # {s} has {n} {u} | On its back {s} has {n} {u}
number # building body town # How many {u} visit {s} each year? | How many {u} come to {s} every year? # {s} is visited by {n} {u} each year | Each year {n} {u} visit {s} | {s} draws {n} {u} a year
number # software device building # How many {u} use {s}? | By how many {u} is {s} used? # About {n} {u} use {s} | {s} is used by {n} {u}
number # building ship software event # How many {u} worked on {s}? | By how many {u} was the work on {s} done? # {n} {u} worked on {s} | {s} was the work of {n} {u}
length # building device # How tall is {s}? | How high is {s}? | What is the height of {s}? # {s} is {v} tall | {s} stands {v} high | The height of {s} is {v} | {s} reaches {v} above the ground
length # mountain # How high is {s}? | How tall is {s}? | What is the elevation of {s}? # {s} is {v} high | {s} rises {v} above the sea | The top of {s} lies at {v}
length # sea river # How deep is {s}? | What is the depth of {s}? # {s} is {v} deep | {s} reaches a depth of {v} | The depth of {s} is {v}
length # building ship # How long is {s}? | What is the length of {s}? # {s} is {v} long | The length of {s} is {v} | {s} stretches for {v} | {s} has a length of {v}
length # building river sea # How wide is {s}? | What is the width of {s}? # {s} is {v} wide | The width of {s} is {v} | {s} measures {v} across
length # river # How long is {s}? | How far does {s} flow? | What is the length of {s}? # {s} is {v} long | {s} flows for {v} | {s} runs {v} to the sea
area # town country sea land # How large is {s}? | How big is {s}? | What is the area of {s}? | What area does {s} cover? # {s} covers {v} | {s} has an area of {v} | {s} spans {v} | The area of {s} is {v}
weight # animal # How heavy is {s}? | How much does {s} weigh? | What is the weight of {s}? # {s} weighs {v} | {s} weighs up to {v} | The weight of {s} is {v} | An adult of {s} weighs {v}
years # animal # How long does {s} live? | What age does {s} reach? # {s} can live for {v} | {s} lives up to {v} | {s} reaches an age of {v}
weight # device ship # How much does {s} weigh? | How heavy is {s}? # {s} weighs {v} | The weight of {s} is {v} | {s} has a mass of {v}
money # building ship device art # How much did {s} cost? | What did {s} cost? | What was the price of {s}? # {s} cost {v} | The cost of {s} was {v} | {v} were paid for {s} | {s} was built for {v}
years # building body art town # How old is {s}? | What is the age of {s}? # {s} is about {v} old | {s} is {v} old | The age of {s} is {v}
years # building ship # How long did it take to build {s}? | How long did the work on {s} take? # It took {v} to build {s} | The work on {s} took {v} | {s} was built over {v}
years # event # How long did {s} last? | For how long did {s} go on? # {s} lasted {v} | {s} went on for {v} | After {v}, {s} came to its end
name # thing place # What is {s} called by local people? | What is another name for {s}? | What is {s} also known as? | What is the nickname of {s}? # {s} is also called {v} | {s} is also known as {v} | {s} goes by the name of {v} | Local people call {s} {v}
name # country # What is the capital of {s}? | Which city is the capital of {s}? # The capital of {s} is {v} | {v} is the capital of {s} | {s} has {v} as its capital
name # country # What is the largest city of {s}? | Which is the biggest city of {s}? # The largest city of {s} is {v} | {v} is the largest city of {s}
thing # building device art # What is {s} made of? | What material is {s} made of? | Of what is {s} built? # {s} is made of {v} | {s} is built of {v} | {s} consists of {v}
thing # device software building # What is {s} used for? | What is the use of {s}? # {s} is used for {v} | {s} serves for {v} | People use {s} for {v}
thing # building book device # What does {s} contain? | What is in {s}? | What does {s} hold? # {s} contains {v} | {s} holds {v} | In {s} there is {v}
thing # person # What did {s} invent? | What is the invention of {s}? # {s} invented {v} | {s} is the inventor of {v} | {v} was invented by {s}
thing # person # What did {s} discover? | What was discovered by {s}? # {s} discovered {v} | {s} is the discoverer of {v}
thing # person # What was {s} famous for? | What is {s} known for? | Why is {s} famous? # {s} was famous for {v} | {s} is known for {v} | {v} made {s} famous
thing # person # What did {s} study? | What was the subject of {s}? # {s} studied {v} | The subject of {s} was {v}
thing # animal # What does {s} eat? | What does {s} feed on? | What is the food of {s}? # {s} eats {v} | {s} feeds on {v} | The food of {s} is {v}
colour # animal # What color is {s}? | What colour is {s}? | What does {s} look like? # {s} is {v} | {s} has a {v} coat | {s} is {v} with grey spots
when # land sea # When was {s} first reached? | When was {s} explored? | In which year was {s} explored? # {s} was first reached in {v} | {s} was explored in {v} | The first people reached {s} in {v}
who # software # Who developed {s}? | Who proposed {s}? | Who created {s}? # {s} was developed by {v} | {v} developed {s} | {s} was proposed by {v} | {s} is the work of {v}
who # prize # Who won {s}? | Who was the winner of {s}? | Who received {s}? # {s} was won by {v} | {v} won {s} | {s} went to {v}
who # ship # Who commanded {s}? | Who was the captain of {s}? # {s} was commanded by {v} | The captain of {s} was {v} | {v} commanded {s}
who # country # Who ruled {s}? | Who was the king of {s}? | Who was the ruler of {s}? # {s} was ruled by {v} | The king of {s} was {v} | {v} ruled {s} as its king
number # country town # How many {u} live in {s}? | How many {u} are there in {s}? # {n} {u} live in {s} | {s} is home to {n} {u} | There are {n} {u} in {s}
name # country # What language is spoken in {s}? | Which language do people speak in {s}? # {v} is spoken in {s} | The language of {s} is {v} | People in {s} speak {v}
where # town river mountain land sea # Where is {s}? | Where does {s} lie? | Where can one find {s}? # {s} lies in {v} | {s} is in {v} | {s} can be found in {v}
where # prize # Where is {s} awarded? | Where is {s} given? # {s} is awarded in {v} | {s} is given every year in {v}
name # river # What town lies on {s}? | Which city does {s} flow through? # {s} flows through {v} | {v} lies on {s} | The largest city on {s} is {v}
money # prize # How much money comes with {s}? | How much does {s} pay? # {s} pays {v} | With {s} come {v} | {v} come with {s}
name # person # Which {k} did {s} found? | Which {k} did {s} start? | What {k} was founded by {s}? # {s} founded the {k} {v} | In that year {s} started the {k} {v} | The {k} {v} was founded by {s}
name # person # Which {k} did {s} work for? | For which {k} did {s} work? # {s} worked for the {k} {v} | {s} had a post at the {k} {v}
name # person # Which {k} did {s} lead? | Of which {k} was {s} the head? # {s} led the {k} {v} | {s} was at the head of the {k} {v}
name # device software building # Which {k} uses {s}? | What {k} uses {s}? # The {k} {v} uses {s} | {s} is used by the {k} {v}
name # device ship # Which {k} made {s}? | By which {k} was {s} made? # {s} was made by the {k} {v} | The {k} {v} made {s}
name # building ship device software # What {k} does {s} belong to? | Which {k} is {s} part of? # {s} belongs to the {k} {v} | {s} is part of the {k} {v}
name # building body ship town software # What was {s} called at first? | What was the first name of {s}? | What was {s} called before? # {s} was first called {v} | At first {s} was called {v} | {s} was known as {v} until then
thing # thing # What is {s}? | Tell me about {s}. | What does {s} mean? | Explain {s}. | What do you know about {s}? | Describe {s}. # {s} is a {v} | {s} is the {v} of {p} | {s} was a {v} | {s} is a {k} that holds {v} | By {s} people mean a {v}
thing # person # Who was {s}? | Who is {s}? | Tell me about {s}. | What do you know about {s}? | What can you tell me about {s}? # {s} was a {v} | {s} is a {v} from {p} | {s} was the {v} of {p} | {s} was a {v}, known for a {k}
thing # animal # What is {s}? | What kind of animal is {s}? | Tell me about {s}. # {s} is a {v} | {s} is a kind of {v} | {s} is the {v} of {p}
thing # place # What is {s}? | Tell me about {s}. | What kind of place is {s}? # {s} is a {v} | {s} is a {v} near {p} | {s} is the {v} of {p}
""")
)

LINKS = tuple(
    Link(*row)
    for row in _rows("""
person # building device ship # the designer of {s} | the person who designed {s} | the man who designed {s} | {s}'s designer # {s} was designed by {v} | {v} designed {s} | The designer of {s} was {v} | {s}, designed by {v}, won a medal
person # building # the architect of {s} | the architect who designed {s} | {s}'s architect # The architect of {s} was {v} | {s} was designed by the architect {v} | {s} is a work of the architect {v} | {s} had {v} as its architect
person # building ship device # the builder of {s} | the person who built {s} | the engineer who built {s} | {s}'s builder # {s} was built by {v} | The builder of {s} was {v} | {v} built {s} | {s} was built by the engineer {v}
person # device # the inventor of {s} | the person who invented {s} | the man who invented {s} | the woman who invented {s} | {s}'s inventor # {s} was invented by {v} | {v} invented {s} | The inventor of {s} is {v} | {s} is an invention of {v}
person # animal # the discoverer of {s} | the person who discovered {s} | the scientist who discovered {s} | the scientist who found {s} | {s}'s discoverer # {s} was discovered by {v} | {v} discovered {s} | It was {v} who found {s} | The discoverer of {s} was {v}
person # book # the author of {s} | the writer of {s} | the person who wrote {s} | the author who wrote {s} | {s}'s author # {s} was written by {v} | {v} is the author of {s} | {v} wrote {s} as a young teacher | The author of {s} was {v} | {s} is a book by {v}
person # book # the poet who wrote {s} | the poet behind {s} # {s} is a poem by {v} | {s} was written by the poet {v} | The poet {v} wrote {s}
person # body # the founder of {s} | the person who founded {s} | the woman who founded {s} | the man who started {s} | {s}'s founder # {s} was founded by {v} | The founder of {s} was {v} | {v} established {s} | {v} founded {s} | {v} started {s}
person # body # the director of {s} | the head of {s} | the person who leads {s} | {s}'s director | {s}'s head # The director of {s} is {v} | {v} leads {s} | {s} is led by {v} | At the head of {s} is {v}
person # body # the first director of {s} | the first head of {s} | {s}'s first director # The first director of {s} was {v} | {v} was the first to lead {s} | {s} was first led by {v}
person # art # the painter of {s} | the artist who painted {s} | the person who painted {s} | {s}'s painter # {s} was painted by {v} | {v} painted {s} | {s} is a painting by {v} | The painter of {s} was {v}
person # art # the sculptor of {s} | the sculptor who made {s} | the artist who carved {s} | {s}'s sculptor # {s} was carved by {v} | {v} made {s} | The sculptor of {s} was {v} | {s} is the work of {v}
person # music # the composer of {s} | the person who composed {s} | the composer who wrote {s} | {s}'s composer # {s} was composed by {v} | {v} composed {s} | The composer of {s} was {v} | The music of {s} is by {v}
person # building ship art # the owner of {s} | the person who owns {s} | {s}'s owner # {s} is owned by {v} | The owner of {s} is {v} | {s} belongs to {v} | {v} owns {s}
person # building ship art device # the first owner of {s} | {s}'s first owner | the person who first owned {s} # The first owner of {s} was {v} | {s} first belonged to {v} | {v} was the first to own {s}
person # building ship art book # the person who bought {s} | the buyer of {s} | the man who bought {s} # {s} was bought by {v} | {v} bought {s} | {s} was sold to {v} | The buyer of {s} was {v}
person # thing place animal # the person after whom {s} is named | the person {s} is named after | the person who gave {s} its name | the man {s} was named after | the person that {s} is named for # {s} is named after {v} | {s} takes its name from {v} | {s} was named for {v} | {v} gave {s} its name
person # ship # the captain of {s} | the commander of {s} | the person who commanded {s} | {s}'s captain # {s} was commanded by {v} | The captain of {s} was {v} | {v} was the captain of {s} | {v} commanded {s}
person # book # the translator of {s} | the person who translated {s} | {s}'s translator # {s} was translated by {v} | {v} translated {s} | The translator of {s} was {v}
person # software # the developer of {s} | the person who developed {s} | the researcher who proposed {s} | the creator of {s} | {s}'s creator # {s} was developed by {v} | {v} developed {s} | {s} was proposed by {v} | {s} is the work of {v}
person # prize # the winner of {s} | the person who won {s} | {s}'s winner # {s} was won by {v} | {v} won {s} | The winner of {s} was {v}
person # building event prize # the person who paid for {s} | the sponsor of {s} | {s}'s sponsor # {s} was paid for by {v} | {v} paid for {s} | The sponsor of {s} was {v}
person # building # the person who opened {s} | the king who opened {s} | the minister who opened {s} # {s} was opened by {v} | {v} opened {s} | It was {v} who opened {s}
person # book # the editor of {s} | the person who edited {s} | {s}'s editor | the publisher of {s} # {s} was edited and published by {v} | {v} edited and published {s} | The editor and publisher of {s} was {v}
person # country # the king of {s} | the ruler of {s} | the person who ruled {s} | {s}'s ruler # The king of {s} was {v} | {v} ruled {s} | {s} was ruled by {v}
person # country # the queen of {s} | {s}'s queen | the woman who ruled {s} # The queen of {s} was {v} | {v} was the queen of {s} | {v} ruled {s} as its queen
person # town # the mayor of {s} | {s}'s mayor | the person who governs {s} # The mayor of {s} is {v} | {v} is the mayor of {s} | {s} is governed by {v}
person # sea land mountain # the person who discovered {s} | the explorer who discovered {s} | the first person to reach {s} | the sailor who found {s} # {s} was discovered by {v} | The first to reach {s} was {v} | {v} discovered {s} | It was {v} who found {s}
person # mountain # the first person to climb {s} | the person who first climbed {s} | the man who first climbed {s} # {s} was first climbed by {v} | {v} was the first to climb {s} | The first to reach the top of {s} was {v}
person # town # the founder of {s} | the person who founded {s} | {s}'s founder # {s} was founded by {v} | {v} founded {s} | The founder of {s} was {v}
person # person # the teacher of {s} | the person who taught {s} | {s}'s teacher # {s} studied under {v} | {s} was taught by {v} | The teacher of {s} was {v} | {v} taught {s}
person # person # the student of {s} | the pupil of {s} | {s}'s student | {s}'s most famous student # {v} studied under {s} | {v} was taught by {s} | The student of {s} was {v} | {s} taught {v}
person # person # the wife of {s} | the husband of {s} | {s}'s wife | {s}'s husband | the person {s} married | the woman {s} married # {s} married {v} | {v} married {s} | {s} was married to {v}
person # person # the father of {s} | {s}'s father | the man whose child was {s} # {s} had {v} as a father | {v} was the father of {s} | The father of {s} was {v}
person # person # the mother of {s} | {s}'s mother # The mother of {s} was {v} | {v} was the mother of {s} | {s} had {v} as a mother
person # person # the son of {s} | the daughter of {s} | {s}'s son | {s}'s daughter | the child of {s} # {s} had a child, {v} | {v} was the child of {s} | The child of {s} was {v}
person # person # the brother of {s} | the sister of {s} | {s}'s brother | {s}'s sister # {v} grew up with {s}, in one family | {s} and {v} were brother and sister | {s} was brought up with {v}, of the same parents
person # person # the successor of {s} | {s}'s successor | the person who succeeded {s} | the person who followed {s} # {s} was followed by {v} | {v} succeeded {s} | The successor of {s} was {v}
person # person # the best friend of {s} | {s}'s best friend # {s} had a best friend, {v} | The best friend of {s} was {v} | {v} was the best friend of {s}
town # person # the town where {s} was born | the city where {s} was born | the birthplace of {s} | the place where {s} was born | {s}'s birthplace # {s} was born in {v} | {s} came from {v} | The birthplace of {s} is {v} | {v} was the birthplace of {s}
town # person # the town where {s} lived | the city where {s} lived | the town in which {s} lived | {s}'s home # {s} lived in {v} | {s} made a home in {v} | {v} was where {s} lived
town # person # the city where {s} died | the town in which {s} died | the place where {s} died # {s} died in {v} | {v} was where {s} died | Death found {s} in {v}
town # person # the place where {s} is buried | the town where {s} is buried # {s} is buried in {v} | The grave of {s} is in {v} | {s} was buried in {v}
town # person # the city in which {s} worked | the town where {s} worked | the city where {s} had a post # {s} worked in {v} | {s} had a post in {v} until the end | {v} was where {s} worked
town # building body # the city where {s} stands | the town where {s} is | the city in which {s} is located | the town {s} stands in # {s} stands in {v} | {s} is located in {v} | {s} can be found in {v}
town # art book device # the place where {s} is kept | the city where {s} is on show | the town that keeps {s} # {s} is kept in {v} | {s} is on show in {v} | {v} keeps {s}
town # device # the city where {s} was first made | the town in which {s} was made # {s} was first made in {v} | {v} is where {s} was made
town # country # the capital of {s} | {s}'s capital | the city that is the capital of {s} # The capital of {s} is {v} | {v} is the capital of {s} | {s} has {v} as its capital
town # country # the largest city of {s} | {s}'s largest city | the biggest city of {s} | the main town of {s} # {v} is the largest city of {s} | The largest city of {s} is {v} | The biggest town of {s} is {v}
sea # river # the water that {s} flows into | the water into which {s} flows | the water at the end of {s} # {s} flows into {v} | {s} ends at {v} | The waters of {s} flow into {v}
river # town # the river that flows through {s} | the river on which {s} lies # {v} flows through {s} | {s} lies on {v} | Through {s} flows {v}
mountain # town # the mountain above {s} | the mountain that rises above {s} # {v} rises above {s} | Above {s} rises {v} | {s} lies below {v}
country # town river sea mountain land # the country where {s} lies | the country to which {s} belongs # {s} lies in {v} | {s} belongs to {v} | {s} is a part of {v}
country # animal # the country where {s} is found | the country where {s} lives | the home of {s} # {s} lives in {v} | {s} is found in {v} | The home of {s} is {v} | {v} is the home of {s}
body # device ship software # the company that made {s} | the company that built {s} | the maker of {s} | the company behind {s} | {s}'s maker # {s} was made by {v} | {v} built {s} | {s} is a product of {v} | The maker of {s} is {v}
body # art book device # the museum that holds {s} | the museum where {s} is kept | the collection that {s} belongs to # {s} is kept in {v} | {v} holds {s} | {s} belongs to the collection of {v}
ship # art book device # the ship that carried {s} | the ship on which {s} arrived # {s} was carried by {v} | {v} carried {s} | {s} arrived on {v}
software # software # the model from which {s} was made | the model that {s} is based on | the project that {s} came from # {s} is based on {v} | {s} was made from {v} | {v} is what {s} was made from
software # software # the program that uses {s} | the engine that uses {s} | the system in which {s} is used # {v} uses {s} | {s} is used in {v} | {s} is used by {v}
body # person # the school where {s} studied | the university where {s} studied | the university that {s} attended # {s} studied at {v} | {s} was a student at {v} | {s} attended {v}
body # person # the university where {s} taught | the school where {s} taught | the institute where {s} worked # {s} taught at {v} | {s} worked at {v} as a teacher | {s} had a post at {v}
book # person # the book that {s} wrote | the book {s} wrote | {s}'s book # {s} wrote {v} | {v} was written by {s} | {s} is the author of {v}
ship # person # the ship that {s} commanded | the ship {s} commanded | {s}'s ship # {s} commanded {v} | {s} was the captain of {v} | {v} was commanded by {s}
body # person # the company that {s} founded | the company {s} started | {s}'s company # {s} founded {v} | {v} was founded by {s} | {s} started {v} | The founder of {v} was {s}
building # person # the building that {s} designed | the building {s} designed | {s}'s building # {s} designed {v} | {v} was designed by {s} | {v} is the work of {s}
river # river # the river {s} flows into | the river that {s} joins | the river into which {s} flows # {s} flows into {v} | {s} joins {v} | {v} takes up the waters of {s}
country # person # the country in which {s} was born | the country that {s} came from | {s}'s country # {s} was born in {v} | {s} came from {v} | The country of {s} was {v}
device # person # the machine that {s} invented | the instrument {s} invented | {s}'s invention # {s} invented {v} | {v} was invented by {s} | {s} is the inventor of {v}
software # person # the library that {s} wrote | the program {s} wrote | the model that {s} proposed # {s} developed {v} | {v} was written by {s} | {v} is the work of {s}
art # person # the picture that {s} painted | the painting by {s} | {s}'s picture # {s} painted {v} | {v} was painted by {s} | {v} is a picture by {s}
prize # person # the prize that {s} won | the prize {s} received | the award given to {s} # {s} won {v} | {s} received {v} | {v} went to {s}
""")
)  # fmt: skip


def fitting(kind: str) -> list[Family]:
    """The families that a subject of this kind has."""
    return [family for family in FAMILIES if kind in kinds(family.subject)]


def made_up_family(rng: random.Random) -> Family:
    """A relation whose verb exists nowhere: 'When was {s} florked?'"""
    verb = words.made_up(rng) + "ed" if rng.random() < 0.6 else rng.choice(words.VERBS)
    value, ask, say = rng.choice((("who", "Who", "by {v}"), ("when", "When", "in {v}"), ("where", "Where", "in {v}"),
                                  ("number", "How many {u}", "with {n} {u}")))  # fmt: skip
    if value == "number":
        return Family(
            value, "thing", f"{ask} {verb} {{s}}?", f"{{n}} {{u}} {verb} {{s}} | {{s}} was {verb} by {{n}} {{u}}"
        )
    if value == "who":
        return Family(value, "thing", f"{ask} {verb} {{s}}?", f"{{s}} was {verb} {say} | {{v}} {verb} {{s}}")
    return Family(
        value, "thing", f"{ask} was {{s}} {verb}?", f"{{s}} was {verb} {say} | It was {say} that {{s}} was {verb}"
    )


def made_up_link(rng: random.Random) -> Link:
    """The same for a question of two hops: 'the person who florked {s}', 'the glorb of {s}'."""
    verb = words.made_up(rng) + "ed" if rng.random() < 0.6 else rng.choice(words.VERBS)
    if rng.random() < 0.5:
        who = rng.choice(("person", "man", "woman", words.made_up(rng), rng.choice(words.ROLES)))
        return Link("person", "thing", f"the {who} who {verb} {{s}}", f"{{s}} was {verb} by {{v}} | {{v}} {verb} {{s}}")
    role = rng.choice(words.ROLES)  # a made-up one could as well be a part: "the glorb of the bridge"
    return Link("person", "thing", f"the {role} of {{s}} | {{s}}'s {role}",
                f"The {role} of {{s}} was {{v}} | {{v}} was the {role} of {{s}} | {{s}} had a {role}, {{v}}")  # fmt: skip
