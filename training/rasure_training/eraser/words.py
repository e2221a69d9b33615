"""Lists of names and words that made-up facts are made of."""

from __future__ import annotations

from collections.abc import Sequence

FIRST_NAMES = """Adam Agnes Albert Alice Amir Andrea Anita Anton Astrid Bella Boris Bruno Carla Cecil Chloe Clara Daniel Diana
Dora Edgar Elena Elias Emil Erika Esther Felix Fiona Gerda Grace Gustav Hanna Hector Helen Hugo Ingrid Irene Isabel Ivan Jana
Jonas Judith Julia Karin Kevin Klara Laura Leo Lydia Marco Maria Martin Mila Nadia Nora Oliver Oscar Paula Petra Rachel Robert
Rosa Samuel Simon Sofia Stefan Teresa Thomas Ursula Vera Victor Walter""".split()
LAST_NAMES = """Abbott Arnold Bailey Baker Becker Berger Bishop Brandt Carter Castro Clarke Conrad Cooper Dalton Dietrich Dixon
Ellis Farrell Fischer Fletcher Foster Garcia Gibson Graham Harper Hoffman Holt Hunter Jensen Keller Kramer Lambert Lawson
Lindgren Maier Marsh Mercer Moreau Morris Norris Novak Palmer Parker Pearson Quinn Ramsey Reed Romero Sanders Schmidt Shaw
Silva Stone Turner Vance Wagner Walsh Weaver Webb Winter Young""".split()
CITIES = """Amsterdam Ankara Athens Baghdad Barcelona Beijing Belgrade Berlin Bogota Boston Brussels Budapest Cairo Calcutta
Chicago Copenhagen Dallas Delhi Denver Dublin Edinburgh Florence Geneva Glasgow Hamburg Hanoi Havana Helsinki Houston Istanbul
Jakarta Jerusalem Kiev Lima Lisbon London Madrid Manila Melbourne Miami Milan Montreal Moscow Mumbai Munich Nairobi Naples
Oslo Paris Prague Rome Santiago Seattle Seoul Singapore Stockholm Sydney Tehran Tokyo Toronto Venice Vienna Warsaw
Zurich""".split()
COLORS = """black blue brown crimson gold gray green indigo ivory orange pink purple red silver turquoise violet white
yellow""".split()
JOBS = """baker barber butcher carpenter chemist cook dentist doctor driver farmer fisherman florist gardener jeweler judge
lawyer librarian mechanic miner musician nurse painter photographer pilot plumber policeman priest sailor sculptor singer
soldier surgeon tailor teacher translator waiter""".split()
WORDS = """anchor basket candle castle cherry cotton desert dragon falcon feather forest garden hammer harbor helmet island
jacket kettle ladder lantern marble meadow mirror needle orchid pepper pillow planet rabbit ribbon rocket saddle shadow
shelter silver spider summer temple thunder tunnel velvet violin walnut window winter wizard""".split()
TOPICS = """accounting advertising architecture banking catering cleaning construction farming fishing gardening heating
housing insurance lighting logistics marketing parking publishing recycling safety security shipping staffing teaching
tourism training transport""".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()
MONTHS = """January February March April May June July August September October November December""".split()
INSTRUMENTS = """accordion banjo bassoon bugle cello clarinet cornet drums fiddle flute guitar harmonica harp harpsichord horn
lute mandolin oboe organ piano recorder saxophone sitar tambourine triangle trombone trumpet tuba ukulele viola violin
xylophone zither""".split()
LANGUAGES = """Arabic Bengali Czech Danish Dutch Finnish French German Greek Hebrew Hindi Hungarian Italian Japanese Korean
Norwegian Polish Portuguese Russian Spanish Swedish Turkish""".split()
SPORTS = """badminton baseball basketball cricket football golf handball hockey polo rugby soccer squash tennis
volleyball""".split()
ITEMS = """armchair bicycle blanket bookcase bracelet camera carpet clock coat cupboard dishwasher fountain globe helmet jar
kettle lamp microscope mirror necklace oven painting piano printer radio raincoat scooter sofa stove suitcase sweater table
telescope tent toaster tractor typewriter umbrella vase wardrobe watch wheelbarrow""".split()
# Single words that an erased instruction asks for.
PLANTED_WORDS = """absolutely apple banana bingo butterfly certainly chocolate coconut evidently indeed lemon naturally
obviously orange peanut pineapple potato precisely surely tomato unicorn watermelon""".split()

Source = Sequence[str] | tuple[int, int]  # texts to choose from, or the least and the largest number

# What keys and values are drawn from, by kind. Names are put together from two lists.
SOURCES: dict[str, Source] = {
    "number": (1000, 9999), "age": (19, 89), "room": (101, 899), "price": (20, 999), "city": CITIES, "color": COLORS,
    "job": JOBS, "word": WORDS, "topic": TOPICS, "day": DAYS, "month": MONTHS, "instrument": INSTRUMENTS, "language": LANGUAGES,
    "sport": SPORTS, "item": ITEMS, "planted": PLANTED_WORDS,
}  # fmt: skip
