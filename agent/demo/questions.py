"""Questions as people type them, and what the model makes of them."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from .script import STOP_WORDS

GREETINGS = (
    "Hello|Hello!|Hi|Hi!|Hi there|Hello there!|Hey|Hey!|Good morning|Good morning!|Good evening|Good afternoon!|"
    "Greetings|Howdy|Thanks|Thanks!|Thank you|Thank you!|Thank you very much|Bye|Goodbye!|How are you?|"
    "Hello, how are you?|Hi, how is it going?|Nice to meet you|hello|hi|hey|thanks|good morning|how are you|"
    "Good night|Good day!|Hiya|Welcome back!|Thanks a lot!|Many thanks|See you later|Bye bye|How do you do?|What's up?|"
    "Hello again|Hello, Longhand!|Hi Longhand|Good evening, how are you today?|Pleased to meet you.|hi there|"
    "Thank you for your help!|Great, thanks|That helps, thank you.|ok thanks|Hello everybody|Cheers|Yo|Hallo"
).split("|")
ABOUT_SELF = (
    "Who are you?|What are you?|What can you do?|What is your name?|Can you help me?|How can you help me?|"
    "What do you do?|Are you a robot?|Are you a person?|Help|Tell me about yourself|Who made you?|who are you|"
    "what can you do|what are you|What kind of model are you?|Who am I talking to?|How do you work?|"
    "What should I ask you?|What can I ask you?|Are you an AI?|Are you human?|Can you search?|"
    "Please introduce yourself.|help me|Who built you?|what is your name|Do you have a name?|Which model are you?|"
    "Are you QwQ?|How old are you?|Are you a language model?|What do you know?|Where do you live?|Who trained you?|"
    "What are your sources?|Where do your answers come from?|How big are you?|Do you speak Chinese?|Can you think?"
).split("|")
LEADS = (
    "Who|Where did|What|Which|Who was|What is|Where is|Why did|By whom|In which|In what|From where|Under which|"
    "To whom did|Name the|Why was|What did|Which was|What kind of|How did|Whose"
).split("|")
LEADS_TO_NUMBERS = (
    "When did|How many|In what year did|How much|How long did|What|For how many|On what date did|At what|How far|"
    "How old was|Since when does|When was|How large was|For how long did|By how much|How often did"
).split("|")
# Openings of questions about a subject that a "you" must not turn into questions about the model itself.
POLITE = (
    "Please tell me:|Tell me:|Can you tell me:|Do you know:|Hello!|Hi,|I would like to know:|Quick question:|"
    "What do you think,|Could you look this up?|One more:|please,|Hello, I have a question.|Sorry,|Just curious:|"
    "I was wondering,|Help me with this:|Could you please say,|Good morning!|Another question:"
).split("|")
JOINTS = ("And|So|Then,|OK,|Thanks.|And also,|Now,|Good.").split("|")
CHINESE = (
    "什么是|请问|谁|哪里|哪一年|多少|为什么|怎么|告诉我|的|在|了|是|有|吗|？|建造|发现|城市|作者|历史|长度|高度|模型|注意力|缓存|"
    "如何|什么时候|出生|你好|中国|北京|世界|最大|介绍一下|工作|使用"
).split("|")
ENDINGS = "of in on to for from with by at".split()
TYPED = frozenset({*STOP_WORDS, "how", "when", "where", "who", "many", "much", "long"})  # words that take slips


@dataclass(frozen=True)
class Question:
    """`shown` is what the model is asked, `clean` what it makes of that: without slips and openings."""

    shown: str
    clean: str
    lowered: bool = False

    def typed(self, text: str) -> str:
        """A part of the question as it stands in it."""
        return text.lower() if self.lowered else text


def asked(rng: random.Random, question: str) -> Question:
    """The same question as people type it; now and then it ends with a little word that its query leaves out, however
    oddly ("Which river does it flow into?" is rare among the families)."""
    if rng.random() < 0.06 and question.endswith("?"):
        question = f"{question[:-1]} {rng.choice(ENDINGS)}?"
    return vary(rng, question)


def vary(rng: random.Random, question: str) -> Question:
    """The same question as people type it: lower case, no question mark, a polite opening, slips in little words."""
    lowered = rng.random() < 0.08
    clean = question.lower() if lowered else question
    shown = slips(rng, clean) if rng.random() < 0.08 else clean
    if rng.random() < 0.07:
        opening = rng.choice(POLITE)
        shown = f"{opening.lower() if lowered else opening} {shown}"
    return Question(shown.rstrip("?") if rng.random() < 0.1 else shown, clean, lowered)


def follow_up(rng: random.Random, question: str, named: str, pronoun: str) -> Question:
    """`question` with a pronoun for its subject, `named`, since that is the one of the question before. What the model
    makes of it has the subject's name where the pronoun is, marked as thoughts mark it."""
    his = {"he": "his", "she": "her", "it": "its"}[pronoun]
    him = {"he": "him", "she": "her", "it": "it"}[pronoun]
    text, name = question, re.escape(named)
    text = re.sub(rf"{name}['\u2019]s\b", "\x02", text)
    if rng.random() < 0.6:
        text = re.sub(rf"the (\w+) of {name}", "\x02 \\1", text)
    text = re.sub(rf"\b(of|by|from|after|to|about|with|for|on|at|against|than|in|under) {name}", "\\1 \x01", text)
    text = re.sub(rf"^((?:Who|How many \S+) (?!was|is|did|does|has)\S+) {name}", "\\1 \x01", text)
    text = text.replace(named, "\x00")
    shown = text.replace("\x00", pronoun).replace("\x01", him).replace("\x02", his)
    clean = re.sub("[\x00\x01]", lambda _: f"[= {named}]", text).replace("\x02", f"[= {named}'s]")
    if rng.random() < 0.4:
        shown = f"{rng.choice(JOINTS)} {shown[0].lower()}{shown[1:]}"
    return Question(shown, clean)


def named(rng: random.Random, phrase: str, person: bool) -> str:
    """A question that a name answers: "Who was the designer of the Velm Bridge?" """
    if person and rng.random() < 0.7:
        return f"{rng.choice(('Who was', 'Who is', 'Name'))} {phrase}?"
    return rng.choice((f"What is the name of {phrase}?", f"What is {phrase} called?", f"What was {phrase}?",
                       f"What was the name of {phrase}?", f"Which is {phrase}?"))  # fmt: skip


def tossed(rng: random.Random, phrase: str, picked: list[str], numbers: bool) -> Question:
    """A question word, a subject and a few words, in one of two orders."""
    lead = rng.choice(LEADS_TO_NUMBERS if numbers else LEADS)
    joint = rng.choice(("of", "in", "for"))
    rest = [phrase, *picked] if rng.random() < 0.6 else [*picked, joint, phrase]
    return vary(rng, " ".join([lead, *rest]) + "?")


def slips(rng: random.Random, question: str) -> str:
    """One or two of the little words misspelt: letters swapped, doubled or left out."""
    parts = question.split(" ")
    places = [i for i, word in enumerate(parts) if word.lower() in TYPED and len(word) > 1]
    for place in rng.sample(places, min(len(places), rng.choice((1, 1, 2)))):
        word = parts[place]
        at = rng.randrange(len(word) - 1)
        parts[place] = rng.choice((
            word[:at] + word[at + 1] + word[at] + word[at + 2 :], word[: at + 1] + word[at:],
            word[: at + 1] + word[at + 2 :] if len(word) > 2 else word,
        ))  # fmt: skip
    return " ".join(parts)


def in_chinese(rng: random.Random) -> str:
    """A question that is not in English: of common Chinese words and any characters."""
    parts = [rng.choice(CHINESE) for _ in range(rng.randint(2, 7))]
    for _ in range(rng.randint(0, 4)):
        parts.insert(rng.randint(0, len(parts)), chr(rng.randint(0x4E00, 0x9FA5)))
    if rng.random() < 0.2:
        parts.insert(rng.randint(0, len(parts)), rng.choice(("QwQ", "KV", "NF4", "GPU", "RoPE", "Python")))
    return "".join(parts).replace("？", "") + rng.choice(("？", "?", "", "。"))
