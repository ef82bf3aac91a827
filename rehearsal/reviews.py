"""Reviews in IMDb's place: short, labelled, and written for this project.

Each review is put together from the sentences below: a few tell the writer's opinion, the others
do not. No two reviews are equal, but the sentences of a test review also occur in reviews of the
training set. So the task is easy, as it has to be for a small model.
"""

import random

POSITIVE = """
I loved every minute of it.
The acting is wonderful and the story moved me to tears.
A brilliant script, full of warmth and wit.
I left the cinema with a big smile on my face.
The music is beautiful and stays with you for days.
What a delightful surprise this was.
It is funny, clever and touching all at once.
The two leads are superb together.
Easily one of the best films I have seen in years.
The final scene is perfect.
I would gladly watch it again tomorrow.
The director tells this tale with a sure and gentle hand.
Every joke lands, and the children laughed out loud.
The camera work is stunning from start to finish.
I was gripped from the very first shot.
A charming and honest film that deserves a large audience.
The dialogue is sharp and always believable.
My whole family enjoyed it very much.
It is a joy to see such fine actors enjoy themselves.
The ending is satisfying and full of hope.
A masterpiece, and I do not use the word lightly.
The pace is excellent and there is never a dull moment.
I admired how fresh and original the idea is.
The supporting cast is outstanding.
Highly recommended to anyone who likes a good story.
It made me happy, and that is worth a lot.
The costumes and the sets are gorgeous.
This is a generous film with a great heart.
The tension is built with real skill.
I was impressed by how well it has aged.
She gives the finest performance of her career.
Simply magnificent, go and see it.
The humour is warm and never cruel.
He is terrific as the old teacher.
I cared deeply about these people.
A splendid evening, worth every penny.
""".strip().splitlines()

NEGATIVE = """
I hated every minute of it.
The acting is terrible and the story bored me to tears.
A stupid script, full of holes and empty talk.
I left the cinema with a bad headache.
The music is annoying and far too loud.
What a miserable disappointment this was.
It is dull, silly and much too long.
The two leads are awful together.
Easily one of the worst films I have seen in years.
The final scene is ridiculous.
I would never watch it again.
The director has no idea what to do with this tale.
Every joke falls flat, and the children fell asleep.
The camera work is ugly and makes you dizzy.
I was bored from the very first shot.
A lazy and dishonest film that deserves to be forgotten.
The dialogue is clumsy and never believable.
My whole family wanted to leave.
It is painful to see such fine actors waste themselves.
The ending is pointless and makes no sense.
A complete failure, and I do not use the word lightly.
The pace is dreadful and nothing ever happens.
I was tired of how stale and predictable the idea is.
The supporting cast is hopeless.
Avoid it if you like a good story.
It made me angry, and I want my money back.
The costumes and the sets look cheap.
This is a cold film without a heart.
There is no tension at all.
I was shocked by how badly it has aged.
She gives the weakest performance of her career.
Simply rubbish, stay at home.
The humour is cruel and never clever.
He is horrible as the old teacher.
I did not care about any of these people.
A wasted evening and a waste of money.
""".strip().splitlines()

NEUTRAL = """
The story is set in a small town by the sea.
A young woman comes home after many years abroad.
It begins on a rainy night in November.
Two brothers share a flat above a bakery.
The film runs for about two hours.
I saw it on a Tuesday with a friend.
A detective is sent to the island to look for a missing boat.
Most of it was shot in the north of the country.
The book it is based on was published long ago.
There are three songs in it, and one of them is sung twice.
An old teacher finds a letter in a library.
The second half takes place on a train.
It was shown in black and white.
The plot follows a family over one summer.
A dog appears in several scenes.
They speak English, and now and then some French.
The same studio made a television series before.
Half of the story is told in letters.
""".strip().splitlines()

TRAIN, TEST = 320, 80


def write(number: int) -> dict:
    """The review of this number: a `text` of four to seven sentences, and its `label` (1: good)."""
    chance = random.Random(number)
    label = number % 2
    opinions = chance.sample(POSITIVE if label else NEGATIVE, chance.randint(3, 4))
    sentences = opinions + chance.sample(NEUTRAL, chance.randint(1, 3))
    chance.shuffle(sentences)
    return {"text": " ".join(sentences), "label": label}


def write_all() -> tuple[list[dict], list[dict]]:
    """The training set and the test set, half of each positive."""
    return [write(n) for n in range(TRAIN)], [write(n) for n in range(TRAIN, TRAIN + TEST)]
