"""Kinds of facts: how a question asks for one and how prose states it. {s} is the subject, {v} the value.

Half of the families share words between question and statement, the others paraphrase; a further family is built from a
made-up verb, so that a model cannot get by on knowing the relation.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from . import words


@dataclass(frozen=True)
class Family:
    """value: who | when | where | number | length | height | weight | name | about. Templates are separated by bars."""

    value: str
    subject: str  # thing | place | person | animal
    questions: str
    statements: str

    def question(self, rng: random.Random) -> str:
        return rng.choice(self.questions.split(" | "))

    def statement(self, rng: random.Random) -> str:
        return rng.choice(self.statements.split(" | "))


FAMILIES = tuple(
    Family(*(part.strip() for part in line.split("#")))
    for line in """
who # thing # Who designed {s}? | Who was the designer of {s}? | Which architect designed {s}? # {s} was designed by {v} | {v} designed {s} | The designer of {s} was {v}
who # thing # Who built {s}? | Who constructed {s}? # {s} was built by {v} | {v} built {s} between two wars
who # thing # Who invented {s}? | Who is the inventor of {s}? # {s} was invented by {v} | The inventor of {s} is {v} | {v} is credited with the invention of {s}
who # thing # Who discovered {s}? | Who first described {s}? # {s} was discovered by {v} | {s} was first described by {v}
who # thing # Who wrote {s}? | Who is the author of {s}? | Who published {s}? # {s} was written by {v} | {v} is the author of {s} | {v} published {s} as a young writer
who # thing # Who founded {s}? | Who was the founder of {s}? | Who established {s}? # {s} was founded by {v} | The founder of {s} was {v} | {v} established {s}
who # thing # Who directed {s}? | Who leads {s}? | Who is the director of {s}? # {s} was directed by {v} | {v} leads {s} | The director of {s} is {v}
who # thing # Who painted {s}? | Who composed {s}? | Who made {s}? # {s} was painted by {v} | {v} composed {s} | {s} is the work of {v}
who # thing # Who owns {s}? | Who bought {s}? # {s} is owned by {v} | {v} bought {s} from its owner
who # thing # Who named {s}? | After whom is {s} named? | Who is {s} named after? # {s} was named by {v} | {s} is named after {v} | {s} takes its name from {v}
who # person # Who taught {s}? | Who was the teacher of {s}? # {s} studied under {v} | {s} was taught by {v}
who # person # Who did {s} marry? | Who was the wife of {s}? | Who was the husband of {s}? # {s} married {v} | {v} became the wife of {s}
when # thing # When was {s} built? | When was {s} completed? | In which year was {s} finished? | What year was {s} completed? # {s} was built in {v} | {s} was completed in {v} | Work on {s} was finished in {v}
when # thing # When was {s} opened? | When did {s} open? | In what year did {s} open? # {s} was opened in {v} | {s} opened on {v} | {s} opened its doors in {v}
when # thing # When was {s} founded? | When was {s} established? | When did {s} begin? # {s} was founded in {v} | {s} was established in {v} | {s} began in {v} | Founded in {v}, {s} grew quickly
when # thing # When was {s} published? | When was {s} released? | When did {s} come out? | When was {s} introduced? # {s} was published in {v} | {s} was released in {v} | {s} came out in {v} | {s} was introduced in {v}
when # thing # When was {s} discovered? | When was {s} first seen? # {s} was discovered in {v} | {s} was first seen in {v}
when # thing # When was {s} destroyed? | When did {s} burn down? | When did {s} close? # {s} was destroyed in {v} | {s} burned down in {v} | {s} closed in {v}
when # person # When was {s} born? | What is the birth date of {s}? | In which year was {s} born? # {s} was born in {v} | {s} was born on {v} | Born in {v}, {s} learned to read late
when # person # When did {s} die? | In which year did {s} die? # {s} died in {v} | {s} died on {v} | The death of {s} came in {v}
when # person # When did {s} win the prize? | When did {s} receive the award? # {s} won the prize in {v} | {s} received the award in {v}
when # thing # When was {s} launched? | When did {s} start? # {s} was launched in {v} | {s} started in {v} | The launch of {s} took place on {v}
where # thing # Where is {s}? | Where is {s} located? | In which city is {s}? | Where can {s} be found? # {s} stands in {v} | {s} is located in {v} | {s} lies near {v} | {s} can be found in {v}
where # person # Where was {s} born? | What is the birthplace of {s}? | In which town was {s} born? # {s} was born in {v} | {s} came from {v} | {s} was born at {v}, the child of a baker
where # person # Where did {s} die? | Where is {s} buried? | Where did {s} live? # {s} died in {v} | {s} is buried in {v} | {s} lived in {v} | The grave of {s} is in {v}
where # person # Where did {s} study? | Where did {s} work? | Where did {s} teach? # {s} studied in {v} | {s} worked at {v} | {s} taught at {v}
where # place # Where does {s} begin? | Where does {s} rise? | Where does {s} end? | Where does {s} flow? # {s} rises in {v} | {s} begins near {v} | {s} ends at {v} | {s} flows into {v}
where # animal # Where does {s} live? | Where is {s} found? | Where does {s} nest? # {s} lives in {v} | {s} is found in {v} | {s} nests on the cliffs of {v}
where # thing # Where is {s} kept? | Where is {s} made? | Where is {s} held? # {s} is kept in {v} | {s} is made in {v} | {s} is held every year in {v}
number # thing # How many {u} does {s} have? | How many {u} are in {s}? | How many {u} are there in {s}? | What is the number of {u} in {s}? # {s} has {n} {u} | {s} holds {n} {u} | There are {n} {u} in {s} | {s} contains {n} {u} | {s} counts {n} {u}
number # person # How many {u} did {s} write? | How many {u} did {s} own? # {s} wrote {n} {u} | {s} owned {n} {u} | In all, {s} wrote {n} {u}
number # animal # How many {u} does {s} lay? | How many {u} does {s} have? # {s} lays {n} {u} | {s} has {n} {u}
number # thing # How many {u} visit {s} each year? | How many {u} use {s}? # {s} is visited by {n} {u} each year | About {n} {u} use {s} | Each year {n} {u} visit {s}
height # thing # How tall is {s}? | How high is {s}? | What is the height of {s}? # {s} is {v} tall | {s} stands {v} high | {s} rises to {v} | The height of {s} is {v} | {s} reaches {v} above the ground
height # place # How high is {s}? | How deep is {s}? | What is the depth of {s}? | How tall is {s}? # {s} is {v} high | {s} is {v} deep | {s} reaches a depth of {v} | {s} rises {v} above the sea
length # thing # How long is {s}? | What is the length of {s}? | How wide is {s}? # {s} is {v} long | The length of {s} is {v} | {s} stretches for {v} | {s} measures {v} | {s} is {v} wide
length # place # How long is {s}? | How far does {s} flow? | How large is {s}? # {s} is {v} long | {s} flows for {v} | {s} runs {v} to the sea | {s} covers {v} | {s} spans {v}
weight # animal # How heavy is {s}? | How much does {s} weigh? | How long does {s} live? | How fast is {s}? | How big is {s}? # {s} weighs {v} | {s} weighs up to {v} | {s} can live for {v} | {s} reaches {v} | {s} moves at {v}
weight # thing # How much did {s} cost? | How much does {s} weigh? | What did {s} cost? | How old is {s}? | How large is {s}? # {s} cost {v} | {s} weighs {v} | The cost of {s} was {v} | {s} is about {v} old | {s} has {v}
name # thing # What is {s} called? | What is another name for {s}? | What is {s} known as? | What is the name of {s}? # {s} is called {v} | {s} is also known as {v} | {s} goes by the name of {v} | Local people call {s} {v}
name # place # What is the capital of {s}? | What is the largest city of {s}? | Which city is the capital of {s}? # The capital of {s} is {v} | {v} is the capital of {s} | The largest city of {s} is {v}
name # thing # What is {s} made of? | What does {s} use? | What does {s} contain? | What is {s} used for? # {s} is made of {w} | {s} uses {w} | {s} contains {w} | {s} is used for {w}
name # person # What did {s} invent? | What did {s} discover? | What was {s} famous for? | What did {s} study? # {s} invented {w} | {s} discovered {w} | {s} was famous for {w} | {s} studied {w}
name # animal # What does {s} eat? | What does {s} feed on? | What color is {s}? # {s} eats {w} | {s} feeds on {w} | {s} has {w}
name # thing # Which {k} uses {s}? | Which {k} made {s}? | What {k} does {s} belong to? | Which {k} is {s} part of? # {v} uses {s} | {s} was made by {v} | {s} belongs to {v} | {s} is part of {v}
about # thing # What is {s}? | Tell me about {s}. | What does {s} mean? | Explain {s}. | What do you know about {s}? # {s} is a {w} | {s} is the {w} of {v} | {s} was a {w} | {s} is a {k} that holds {w} | By {s} people mean a {w}
about # person # Who was {s}? | Who is {s}? | Tell me about {s}. | What do you know about {s}? # {s} was a {k} | {s} is a {k} from {v} | {s} was the {k} of {v} | {s} was a {w}, known for a {k}
about # animal # What is {s}? | What kind of animal is {s}? | Tell me about {s}. # {s} is a {w} | {s} is a kind of {w} | {s} is the {k} with {w}
""".strip().splitlines()
)


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
