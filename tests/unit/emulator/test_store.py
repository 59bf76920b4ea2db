"""The versions of documents, and the tree of paths, against a slow model that keeps everything."""

from __future__ import annotations

from random import Random
from typing import Any

from google.cloud.firestore_v1.types import document

from emulator.store import Store

ROOT = "projects/p/databases/d/documents"
Document = document.Document.pb()


def made(name: str, number: int = 0) -> Any:
    made_document = Document(name=name)
    made_document.fields["number"].integer_value = number
    return made_document


def below(path: str) -> str:
    return f"{ROOT}/{path}"


def test_a_document_can_be_read_as_it_was() -> None:
    store, name = Store(ROOT), below("a/1")
    first, second = made(name, 1), made(name, 2)
    store.put(name, first, 10)
    store.put(name, second, 20)
    store.put(name, None, 30)
    seen = [store.get(name, at_us) for at_us in (9, 10, 19, 20, 29, 30, 99)]
    assert seen == [None, first, first, second, second, None, None]
    assert store.get(name) is None


def test_what_is_below_a_missing_document_is_found_and_the_missing_one_listed() -> None:
    store = Store(ROOT)
    store.put(below("a/gone/b/1"), made(below("a/gone/b/1")), 1)
    store.put(below("a/here"), made(below("a/here")), 2)
    assert store.collection_names(ROOT) == [below("a")]
    assert store.missing_parents(below("a")) == [below("a/gone")]
    assert [found.name for found in store.collection(below("a"))] == [below("a/here")]
    assert store.collection_names(below("a/gone")) == [below("a/gone/b")]


def test_a_collection_group_does_not_take_ids_for_prefixes() -> None:
    store = Store(ROOT)
    for path in ("b/1", "a/1/b/2", "a/10/b/3", "a/1/c/4/b/5", "a/1/bb/6"):
        store.put(below(path), made(below(path)), 1)
    assert sorted(store.collection_group(below("a/1"), "b")) == [below("a/1/b"), below("a/1/c/4/b")]
    assert len(list(store.collection_group(ROOT, "b"))) == 4
    assert len(list(store.descendants(below("a/1")))) == 3


def test_any_history_reads_as_a_model_that_forgets_nothing() -> None:
    for seed in range(30):
        random = Random(seed)
        names = [below(f"{top}/{one}{rest}") for top in "ab" for one in "123" for rest in ("", "/a/1", "/b/2", "/a/1/c/3")]
        store = Store(ROOT)
        history: list[dict[str, Any]] = [{}]
        horizon = 0
        for now in range(1, 150):
            state = dict(history[-1])
            name = random.choice(names)
            written = None if random.random() < 0.4 else made(name, now)
            store.put(name, written, now)
            if written is None:
                state.pop(name, None)
            else:
                state[name] = written
            history.append(state)
            if random.random() < 0.2:
                horizon = random.randint(horizon, now)
                store.forget(horizon)
            at = random.randint(horizon, now)
            expected = history[at]
            for each in names:
                assert store.get(each, at) is expected.get(each)
                assert store.get(each) is state.get(each)
            assert {found.name for found in store.descendants(ROOT, at)} == set(expected)
            assert {found.name for path in store.collection_group(ROOT, "a") for found in store.collection(path, at)} == {
                each for each in expected if each.split("/")[-2] == "a"
            }
            assert store.collection_names(ROOT, at) == sorted({below(each.split("/")[5]) for each in expected})
        for name in names:
            store.put(name, None, 200)
        store.forget(200)
        assert (len(store), store.past_versions) == (0, 0)
        assert not store._children, "no path is left of documents that nobody can see"
        assert not store._groups


def test_an_index_names_all_that_have_the_string_at_any_instant_that_is_kept() -> None:
    for seed in range(30):
        random = Random(seed)
        store = Store(ROOT)
        history: list[dict[str, Any]] = [{}]
        horizon = 0
        for now in range(1, 120):
            state = dict(history[-1])
            name = below(f"a/{random.randrange(5)}")
            written = None
            if random.random() < 0.7:
                written = made(name, now)
                if random.random() < 0.8:
                    written.fields["group"].string_value = random.choice("xy")
            store.put(name, written, now)
            state[name] = written
            history.append(state)
            if random.random() < 0.2:
                horizon = random.randint(horizon, now)
                store.forget(horizon)
            if now < seed * 3:
                continue  # the index is made late, of what is there then
            at = random.randint(horizon, now)
            for string in "xy":
                found = {each.name for each in store.collection(below("a"), at, [("group", string)])}
                wanted = {
                    name
                    for name, each in history[at].items()
                    if each is not None and "group" in each.fields and each.fields["group"].string_value == string
                }
                assert wanted <= found
        for name in list(history[-1]):
            store.put(name, None, 200)
        index = store._index(below("a"), "group")
        store.forget(200)
        assert not index._names
        assert not store._indexes


def test_an_index_is_chosen_that_leaves_the_fewest() -> None:
    store = Store(ROOT)
    for number in range(10):
        each = made(below(f"a/{number}"))
        each.fields["group"].string_value = "x"
        each.fields["one"].string_value = str(number)
        store.put(each.name, each, number + 1)
    found = list(store.collection(below("a"), None, [("group", "x"), ("one", "3")]))
    assert [each.name for each in found] == [below("a/3")]
    assert list(store.collection(below("none"), None, [("group", "x")])) == []
