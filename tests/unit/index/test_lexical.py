from __future__ import annotations

from affinage.index.lexical import query_tokens, score, tokens, weight


def test_words_are_folded_and_words_that_say_nothing_are_dropped() -> None:
    assert tokens("Les congés de l'équipe, n° 28!") == ("conge", "equipe", "28")
    assert tokens("The renewal of passports, and of the visas") == ("renewal", "passport", "visa")
    assert tokens("") == ()


def test_plural_and_accent_find_the_singular() -> None:
    assert set(query_tokens("passeports périmés")) == set(tokens("Passeport périmé"))


def test_query_names_the_most_telling_word_first() -> None:
    assert query_tokens("Quel est le délai de renouvellement du passeport ?")[0] == "renouvellement"


def test_score_rises_with_rare_words_and_saturates_with_repetition() -> None:
    query = ["passeport", "delai"]
    assert weight("passeport") > weight("delai")
    assert score(query, ("passeport",)) > score(query, ("delai",)) > score(query, ("autre",)) == 0.0
    once, often = score(["passeport"], ("passeport",)), score(["passeport"], ("passeport",) * 50)
    assert once < often < 2.2 * once  # k1 = 1.2 bounds the gain at k1 + 1


def test_score_depends_on_the_query_and_the_text_alone() -> None:
    # Fixed statistics: no other document enters, so a ranking tells nothing of hidden ones.
    assert score(["visa"], ("visa", "leave")) == score(["visa"], ("visa", "pay"))
