"""CHAIR of captions: golden values by hand, words and plurals, what is known of published sets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lmmsae_eval.errors import UsageError
from lmmsae_eval.tasks.captions.chair import RATES, Counts, read_caption
from lmmsae_eval.tasks.captions.mentions import Vocabulary
from lmmsae_eval.tasks.captions.truth import read_truth

COCO = Vocabulary(
    {
        "person": ("man", "woman", "people", "player"),
        "dog": ("puppy",),
        "hot dog": (),
        "bus": (),
        "knife": (),
        "surfboard": ("board",),
        "wine glass": (),
    },
    {},
)


def test_chair_of_three_captions_is_what_is_counted_by_hand():
    # A man and his dog: "man" (right), "puppies" (right), "bus" (made up).
    first = read_caption("A man with two puppies near a bus", ["person", "dog"], COCO).counts
    assert first == Counts(mentions=3, hallucinated=1, objects=2, recalled=2, words=8)
    # A bus: "bus" twice, "people" and "people" made up, said twice and so counted twice.
    second = read_caption("people, people: a bus and a bus", ["bus", "knife"], COCO).counts
    assert second == Counts(mentions=4, hallucinated=2, objects=2, recalled=1, words=7)
    # Nothing of the list is named: nothing is made up, and nothing is recalled.
    third = read_caption("A quiet evening.", ["dog"], COCO).counts
    assert third == Counts(mentions=0, hallucinated=0, objects=1, recalled=0, words=3)
    rates = {name: rate([first, second, third]) for name, rate in RATES.items()}
    assert rates == {
        "chair_i": pytest.approx(3 / 7),
        "chair_s": pytest.approx(2 / 3),
        "object_recall": pytest.approx(3 / 5),
        "mentions": pytest.approx(7 / 3),
        "words": pytest.approx(6.0),
    }


def test_where_nothing_is_named_there_is_no_chair_i_but_a_recall_of_0():
    silent = [Counts(0, 0, 2, 0, 5)]
    assert RATES["chair_i"](silent) is None
    assert RATES["object_recall"](silent) == 0.0
    assert all(rate([]) is None for rate in RATES.values())


@pytest.mark.parametrize(
    ("caption", "named"),
    [
        ("a hot dog", ["hot dog"]),
        ("a dog, hot", ["dog"]),
        ("Hot dogs and knives", ["hot dog", "knife"]),
        ("two buses; three wine glasses", ["bus", "wine glass"]),
        ("WOMEN", []),
        ("a boarding pass for the surfboards", ["surfboard"]),
        ("", []),
    ],
)
def test_the_longest_phrase_is_what_is_named_and_plurals_are_the_same_word(caption, named):
    assert COCO.mentions(caption) == named


def test_an_objects_own_name_is_its_own_even_where_another_may_be_called_so():
    words = Vocabulary({"cup": ("glass",), "glass": ()}, {})
    assert words.mentions("a glass") == ["glass"]


@given(
    st.lists(st.sampled_from(["man", "dog", "bus", "sky", "a"]), max_size=12),
    st.sets(st.sampled_from(["person", "dog", "bus"])),
)
def test_saying_one_more_thing_that_is_there_never_raises_chair_nor_lowers_recall(said, there):
    before = read_caption(" ".join(said), there, COCO).counts
    for name in there:
        after = read_caption(" ".join([*said, name]), there, COCO).counts
        assert after.hallucinated == before.hallucinated
        assert after.mentions == before.mentions + 1
        assert after.recalled >= before.recalled


def test_a_file_of_our_own_schema_gives_objects_their_names_and_pictures(tmp_path):
    document = {
        "objects": {"boat": ["ship"], "tree": []},
        "images": {"deep/a.jpg": ["ship"], "b.jpg": ["unicorn"]},
    }
    (tmp_path / "o.json").write_text(json.dumps(document))
    truth = read_truth(tmp_path / "o.json")
    assert truth.of_image("./VD/map/a.jpg") == {"boat"}
    assert truth.of_image("b.jpg") == frozenset()
    assert truth.of_image("c.jpg") is None


def coco(tmp_path):
    instances = {
        "images": [{"id": 7, "file_name": "COCO_val2014_7.jpg"}, {"id": 8, "file_name": "8.jpg"}],
        "categories": [{"id": 1, "name": "person"}, {"id": 2, "name": "dog"}],
        "annotations": [{"image_id": 7, "category_id": 2}],
    }
    (tmp_path / "instances_val2014.json").write_text(json.dumps(instances))
    return tmp_path


def test_cocos_objects_are_the_segmented_ones_and_those_that_people_wrote_of(tmp_path):
    bare = read_truth(coco(tmp_path) / "instances_val2014.json")
    assert bare.of_image("COCO_val2014_7.jpg") == {"dog"}
    (tmp_path / "synonyms.txt").write_text("person, man, woman\ndog, puppy\n")
    written = {"annotations": [
        {"image_id": 7, "caption": "A woman walks."}, {"image_id": 99, "caption": "A dog."},
    ]}  # fmt: skip
    (tmp_path / "captions_val2014.json").write_text(json.dumps(written))
    whole = read_truth(tmp_path)
    assert whole.of_image("COCO_val2014_7.jpg") == {"dog", "person"}
    assert whole.of_image("8.jpg") == frozenset()
    assert whole.vocabulary.mentions("a puppy and a man") == ["dog", "person"]
    assert whole.identity != bare.identity


def test_in_amber_what_is_related_to_an_object_may_be_named_too(published_folder):
    truth = read_truth(published_folder("amber"))
    assert len(truth.images) == 1004
    there = truth.of_image("AMBER_1.jpg")
    assert there == {"sky", "forest", "grass", "person", "lake", "mountain", "road"}
    read = read_caption("Trees by a lake under a cloud, a sign", there, truth.vocabulary)
    # A forest has trees; a sign is never held against anyone.
    assert list(read.named) == ["tree", "lake", "cloud"]
    assert list(read.wrong) == ["cloud"]
    assert (read.counts.recalled, read.counts.objects) == (2, 7)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"objects": [], "images": {}}', '{"annotations": [{}]}']
)
def test_a_file_that_says_of_no_picture_what_is_in_it_is_one_line(tmp_path, text):
    (tmp_path / "o.json").write_text(text)
    with pytest.raises(UsageError, match=r"o.json says of no picture .* give \{'objects'"):
        read_truth(tmp_path / "o.json")


def test_pictures_of_one_name_with_other_objects_are_refused(tmp_path):
    images = {"a/1.png": ["boat"], "b/1.png": ["boat"], "c/1.png": ["car"]}
    document = {"objects": {"boat": [], "car": []}, "images": images}
    (tmp_path / "o.json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"several pictures are called 1\.png"):
        read_truth(tmp_path / "o.json")
    del images["c/1.png"]
    (tmp_path / "o.json").write_text(json.dumps(document))
    assert read_truth(tmp_path / "o.json").images == {"1.png": {"boat"}}


def test_a_folder_without_any_annotations_and_a_path_that_is_not_there_are_refused(tmp_path):
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="says of no picture"):
            read_truth(place)
