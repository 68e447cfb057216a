"""What is said: sentences of our own, and a small grammar that makes any number of English ones."""

from __future__ import annotations

import numpy as np

SENTENCES: dict[str, tuple[str, ...]] = {
    "en-us": (
        "Please bring the blue map before we leave for the harbour.",
        "My brother baked fresh bread for the whole family.",
        "The moon was bright above the empty fields.",
        "Put both boots by the door, they are full of mud.",
        "We found an old photograph behind the piano.",
        "Five brave women flew over the frozen river.",
        "I would rather wait until the weather improves.",
        "Could you show me which road goes to the valley?",
        "The museum opens at half past nine on Mondays.",
        "Every few minutes a purple balloon rose into the air.",
        "Nobody knew who had moved the piano upstairs.",
        "She poured warm milk over a bowl of oats.",
        "They have been looking for the keys all morning.",
        "My neighbour plays the oboe, but never before noon.",
        "Whose umbrella is this, and why is it so small?",
        "The voice on the phone was calm and very friendly.",
        "Open the window, the room is far too warm.",
        "Our team won the final by a single point.",
        "A hundred bees were humming above the clover.",
        "Take the first turn on the left, then follow the wall.",
        "He promised to write, and he did, twice a week.",
        "The baker waves to me whenever I pass his shop.",
        "If you move the lamp, you will see the picture better.",
        "Most people forget how loud the ocean can be.",
        "I have never seen so much snow in the middle of April.",
        "What do you think about leaving a little earlier?",
        "The puppy jumped up and chewed my favourite shoe.",
        "We walked for hours and saw only two other people.",
        "Half of the apples were still green and sour.",
        "Tell me about the best meal you have ever had.",
    ),
    "en": (
        "The bus to the village leaves in about an hour.",
        "I put the marmalade on the shelf above the oven.",
        "We have a small garden with plum trees and mint.",
        "Would you mind moving your bag off the bench?",
        "The path goes up the hill and past an old farm.",
        "Nobody warned us about the fog in the morning.",
        "My favourite part of the film was the very beginning.",
        "She bought a warm woollen hat before the journey.",
    ),
    "de": (
        "Am Morgen fuhr der Bus pünktlich vom Bahnhof ab.",
        "Meine Mutter backt jeden Freitag ein frisches Brot.",
        "Über dem Fluss lag früh am Tag ein feiner Nebel.",
        "Würdest du bitte das Fenster öffnen, es ist so warm.",
        "Wir haben lange auf den ersten Schnee gewartet.",
        "Auf dem Balkon blühen viele bunte Blumen.",
        "Der alte Baum im Park ist bei dem Sturm umgefallen.",
        "Ich habe vergessen, wo mein blauer Mantel hängt.",
    ),
    "fr": (
        "Ma voisine prépare une bonne soupe aux poireaux.",
        "Nous avons marché longtemps au bord de la mer.",
        "Le petit bateau bleu a quitté le port avant midi.",
        "Peux-tu fermer la porte, il fait vraiment froid.",
        "Les enfants jouent au ballon devant la maison.",
        "Je voudrais un peu de pain et beaucoup de beurre.",
        "Hier soir, la lune brillait au-dessus du village.",
        "Personne ne savait où était passé le chat.",
    ),
    "es": (
        "Mi abuela prepara una sopa muy buena los domingos.",
        "El barco salió del puerto antes del amanecer.",
        "Por favor, abre la ventana, aquí hace mucho calor.",
        "Los niños juegan a la pelota en la plaza.",
        "Nunca había visto tanta nieve en el mes de abril.",
        "La luna brillaba sobre los campos vacíos.",
        "Todavía no sabemos quién va a venir mañana.",
        "Compré un abrigo nuevo para el viaje.",
    ),
    "it": (
        "Mia nonna prepara il pane ogni venerdì mattina.",
        "La barca blu è partita dal porto prima di mezzogiorno.",
        "Per favore, apri la finestra, qui fa molto caldo.",
        "I bambini giocano a palla davanti alla casa.",
        "Non abbiamo mai visto tanta neve in aprile.",
        "Vorrei un bicchiere di acqua e un po' di pane.",
    ),
    "pt": (
        "A minha mãe faz um bolo muito bom aos domingos.",
        "O barco azul saiu do porto antes do meio-dia.",
        "Por favor, abra a janela, está muito calor.",
        "As crianças brincam com a bola na praia.",
        "Nunca vimos tanta neve no mês de abril.",
        "Não sei onde deixei o meu casaco novo.",
    ),
    "nl": (
        "Mijn moeder bakt elke vrijdag een vers brood.",
        "De blauwe boot voer voor het middaguur uit de haven.",
        "Wil je het raam openen, het is hier veel te warm.",
        "De kinderen spelen met een bal voor het huis.",
        "Boven de rivier hing vroeg in de morgen mist.",
        "Niemand wist wie de piano naar boven had gebracht.",
    ),
    "pl": (
        "Moja mama piecze w piątek pyszny chleb.",
        "Niebieska łódź wypłynęła z portu przed południem.",
        "Proszę otworzyć okno, bo tu jest bardzo ciepło.",
        "Dzieci bawią się piłką przed domem.",
        "Nad rzeką wisiała rano gęsta mgła.",
        "Nigdy nie widziałem tak dużo śniegu w kwietniu.",
    ),
    "sv": (
        "Min mamma bakar färskt bröd varje fredag.",
        "Den blå båten lämnade hamnen före klockan tolv.",
        "Kan du öppna fönstret, det är mycket varmt här.",
        "Barnen spelar boll framför huset.",
        "Över floden låg en tunn dimma på morgonen.",
        "Ingen visste vem som hade flyttat pianot.",
    ),
    "tr": (
        "Annem her cuma sabahı taze ekmek pişirir.",
        "Mavi tekne öğleden önce limandan ayrıldı.",
        "Lütfen pencereyi aç, burası çok sıcak.",
        "Çocuklar evin önünde top oynuyor.",
        "Sabah nehrin üstünde ince bir sis vardı.",
        "Nisan ayında hiç bu kadar kar görmemiştim.",
    ),
}
"""Sentences by eSpeak NG's name of the language."""

_WHO = (
    "My father", "The young teacher", "Our neighbour", "A friend of mine", "The old farmer",
    "Somebody", "The whole team", "Her little brother", "Every visitor", "The new boss",
    "Paul's family", "A woman from Warsaw",
)  # fmt: skip
_DID = (
    "bought", "painted", "forgot", "moved", "wanted", "showed me", "found", "borrowed",
    "brought back", "carried", "repaired", "looked for",
)  # fmt: skip
_WHAT = (
    "a wooden boat", "the purple curtain", "five bottles of water", "a map of the river",
    "some brown paper", "the broken mirror", "a very old violin", "both umbrellas",
    "half of the apples", "an empty box", "the wrong book", "a warm pullover",
)  # fmt: skip
_WHEN = (
    "before breakfast", "last Wednesday", "in the middle of the night", "two months ago",
    "on the way home", "above the bakery", "for the first time", "without a word",
    "at the end of the summer", "because of the weather", "from the market", "after the film",
)  # fmt: skip


def made_up(rng: np.random.Generator) -> str:
    """An English sentence put together at random, such as few people have said before."""
    who, did, what, when = (
        part[int(rng.integers(len(part)))] for part in (_WHO, _DID, _WHAT, _WHEN)
    )
    return f"{who} {did} {what} {when}."
