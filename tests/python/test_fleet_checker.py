"""Proves that the checker of the fleet's tests finds what it is for: each kind of fault, planted
into a history by hand and into a running engine's own deliveries, is found and called by its name;
and what is allowed is not.
"""

import itertools
import re

import pytest
from engine import Engine
from faults import Between
from fleet.checker import KINDS, Checker
from fleet.traffic import Traffic


class Story:
    """A history by hand, in one room: each call is one moment later."""

    def __init__(self):
        self.checker = Checker()
        self._time = itertools.count(1)
        self.checker.now = lambda: next(self._time) / 1000
        self.names = itertools.count(1)

    def write(self, room="r", by="w", connection=1):
        write = self.checker.invoke(f"c{next(self.names)}", room, "x", by)
        self.checker.sent(write, connection)
        return write

    def acked(self, seq, room="r", id=None, **more):
        write = self.write(room, **more)
        self.checker.ok(write, id or f"m{seq}", seq)
        return write

    def view(self, who="l", room="r"):
        return self.checker.view(who, room)

    def joins(self, who="l", room="r", last_seq=0, since=None, messages=(), complete=True):
        view = self.view(who, room)
        messages = [said(*it) for it in messages]
        view.joined({"lastSeq": last_seq, "messages": messages, "complete": complete}, since)
        return view

    def kinds(self, final=None):
        verdict = self.checker.judge(final)
        print(verdict)
        return verdict.kinds()


def said(write, seq, id=None, body="x"):
    return {"seq": seq, "id": id or f"m{seq}", "clientId": write.client_id, "body": body}


@pytest.fixture
def story():
    return Story()


def written(story, count, **more):
    return [story.acked(seq, **more) for seq in range(1, count + 1)]


def hear(view, writes, *seqs):
    for seq in seqs:
        view.delivered(said(writes[seq - 1], seq))


def test_what_is_right_is_right(story):
    one, two = story.joins("one"), story.joins("two")
    writes = written(story, 4)
    hear(one, writes, 1, 2, 3, 4)
    hear(two, writes, 1, 2)
    two.closed()
    late = [(writes[2], 3), (writes[3], 4)]
    story.joins("two", since=2, last_seq=4, messages=late)
    story.joins("three", last_seq=4, messages=late)
    verdict = story.checker.judge().check()
    assert verdict.counts["delivered"] == 8 and verdict.counts["acked"] == 4


def test_lost_in_between_and_at_the_end(story):
    one, two = story.joins("one"), story.joins("two")
    writes = written(story, 3)
    hear(one, writes, 1, 3)
    hear(two, writes, 1, 2)
    verdict = story.checker.judge()
    assert verdict.kinds() == {"lost"} and len(verdict.faults["lost"]) == 2
    text = str(verdict)
    assert "one in r: c2 to r" in text and "left out without a word" in text
    assert "two in r: c3 to r" in text and "never came" in text


def test_who_is_gone_in_the_end_has_lost_nothing(story):
    one, two = story.joins("one"), story.joins("two")
    writes = written(story, 3)
    hear(one, writes, 1, 2)
    hear(two, writes, 1)
    one.left(), two.closed()
    assert story.kinds() == set()


def test_a_hole_that_was_told_of(story):
    view = story.joins()
    writes = written(story, 5)
    hear(view, writes, 1, 2)
    view.gap(4)
    hear(view, writes, 5)
    verdict = story.checker.judge().check()
    assert verdict.counts["missing, announced"] == 2


def test_a_hole_that_was_told_of_too_late(story):
    view = story.joins()
    writes = written(story, 5)
    hear(view, writes, 1, 2, 5)
    view.gap(5)
    assert story.kinds() == {"lost"}


def test_a_notice_excuses_nothing_that_came_after_it(story):
    view = story.joins()
    writes = written(story, 3)
    hear(view, writes, 1, 2, 3)
    view.gap(3)
    story.acked(4)
    assert story.kinds() == {"lost"}


def test_a_notice_excuses_nothing_that_is_there_behind_it(story):
    view = story.joins()
    writes = written(story, 3)
    hear(view, writes, 1)
    view.gap(2)
    assert story.kinds() == set()
    assert story.kinds({"r": {1: "m1", 2: "m2", 3: "m3"}}) == {"lost"}


def test_an_incomplete_join_is_a_notice_a_complete_one_is_none(story):
    writes = written(story, 4)
    view = story.joins(last_seq=1)
    view.closed()
    story.joins(since=1, last_seq=4, messages=[(writes[3], 4)], complete=False)
    assert story.kinds() == set()
    view.closed()
    story.joins("other", last_seq=1)
    story.joins("other", since=1, last_seq=4, messages=[(writes[3], 4)])
    assert story.kinds() == {"gap", "lost"}


def test_a_room_that_goes_back(story):
    story.joins(last_seq=7)
    story.joins(since=7, last_seq=3)
    assert story.kinds() == {"gap"}


def test_gap_of_what_nobody_knows(story):
    view = story.joins(last_seq=3)
    view.delivered(said(story.acked(5), 5))
    assert story.kinds() == {"gap"}


def test_duplicate(story):
    view = story.joins()
    writes = written(story, 2)
    hear(view, writes, 1, 2, 2)
    assert story.kinds() == {"duplicate"}


def test_duplicate_of_an_old_one(story):
    view = story.joins()
    writes = written(story, 3)
    hear(view, writes, 1, 2, 3, 1)
    assert story.kinds() == {"duplicate"}


def test_duplicate_under_another_number(story):
    """A repetition that was not known as one."""
    view = story.joins()
    write = story.acked(2)
    view.delivered(said(write, 1))
    view.delivered(said(write, 2))
    assert story.kinds() == {"duplicate"}


def test_again_after_a_notice_is_allowed(story):
    view = story.joins()
    write = story.acked(2)
    view.delivered(said(write, 1))
    view.gap(1)
    view.delivered(said(write, 2))
    assert story.checker.judge().check().counts["again"] == 1


def test_duplicate_in_the_answer_and_live(story):
    writes = written(story, 2)
    view = story.joins()
    hear(view, writes, 1)
    view.closed()
    story.joins(since=1, last_seq=2, messages=[(writes[1], 2)])
    hear(view, writes, 2)
    assert story.kinds() == {"duplicate"}


def test_reordered_deliveries(story):
    view = story.joins()
    writes = written(story, 3)
    hear(view, writes, 1, 3, 2)
    assert story.kinds() == {"reordered"}


def test_reordered_against_its_acknowledgement(story):
    story.acked(2), story.acked(1)
    assert story.kinds() == {"reordered"}


def test_what_was_lost_in_a_fork_has_no_place_in_the_order(story):
    view = story.joins()
    write = story.acked(2, id="lost")
    view.delivered(said(story.acked(1), 1))
    assert story.kinds({"r": {1: "m1", 2: "lost"}}) >= {"reordered"}
    view.gap(1)
    view.delivered(said(story.acked(2), 2))
    assert write.acked and story.kinds({"r": {1: "m1", 2: "m2"}}) == set()


def test_reordered_on_one_connection(story):
    one, two = story.write(), story.write()
    story.checker.ok(two, "m1", 1), story.checker.ok(one, "m2", 2)
    assert story.kinds() == {"reordered"}
    other = Story()
    one, two = other.write(connection=1), other.write(connection=2)
    other.checker.ok(two, "m1", 1), other.checker.ok(one, "m2", 2)
    assert other.kinds() == set()


def test_numbers_may_begin_anew_over_a_break(story):
    view = story.joins()
    writes = written(story, 3)
    hear(view, writes, 1, 2, 3)
    view.gap(0)
    view.delivered(said(story.acked(1, id="n1"), 1, "n1"))
    assert story.kinds() == set()


def test_forked_within_one_view(story):
    view = story.joins()
    writes = written(story, 2)
    hear(view, writes, 1, 2)
    view.delivered(said(story.acked(2, id="n2"), 2, "n2"))
    assert "forked" in story.kinds()


def test_forked_between_views(story):
    one, two = story.joins("one"), story.joins("two")
    writes, other = written(story, 2), story.acked(2, id="n2")
    writes.append(story.acked(3))
    hear(one, writes, 1, 2, 3)
    hear(two, writes, 1)
    two.delivered(said(other, 2, "n2"))
    hear(two, writes, 3)
    assert {"forked", "lost"} == story.kinds()


def test_forked_and_never_joined_again(story):
    one, two = story.joins("one"), story.joins("two")
    first, second = story.write(), story.write()
    one.delivered(said(first, 1, "m1"))
    two.delivered(said(second, 1, "n1"))
    assert story.kinds() == {"forked"}
    one.gap(1)
    assert story.kinds() == set()


def test_phantom(story):
    view = story.joins()
    view.delivered({"seq": 1, "id": "m1", "clientId": "nobody's", "body": "x"})
    assert story.kinds() == {"phantom"}


def test_phantom_with_a_changed_body(story):
    view = story.joins()
    view.delivered(said(story.acked(1), 1, body="y"))
    assert story.kinds() == {"phantom"}


def test_phantom_that_was_refused(story):
    view, write = story.joins(), story.write()
    story.checker.fail(write, "too_large")
    view.delivered(said(write, 1))
    assert story.kinds() == {"phantom"}


def test_unknown_but_there_is_allowed(story):
    view, write = story.joins(), story.write()
    story.checker.unknown(write)
    view.delivered(said(write, 1))
    assert story.checker.judge().check().counts["unknown but there"] == 1


def test_leak_from_another_room(story):
    view = story.joins()
    view.delivered(said(story.acked(1, room="secret"), 1))
    assert story.kinds() == {"leak"}


def test_leak_to_who_has_left(story):
    view = story.joins()
    writes = written(story, 2)
    hear(view, writes, 1)
    view.left()
    hear(view, writes, 2)
    assert story.kinds() == {"leak"}


def test_hung(story):
    write = story.write()
    write.last_sent -= 100
    story.checker.ok(write, "m1", 1)
    assert story.kinds() == {"hung"}


def test_every_kind_has_a_test():
    source = open(__file__).read()
    for kind in KINDS:
        assert re.search(rf'== {{"{kind}"|{{"{kind}"}}', source), kind


@pytest.fixture(scope="module")
def engine():
    running = Engine(DATA_DIR="none", HISTORY_SIZE="50")
    yield running
    running.stop()


def test_traffic_that_breaks_off_and_comes_back(engine):
    with Traffic([engine], ports=lambda: [engine.port], prefix="back", rate=60) as traffic:
        for _ in range(4):
            traffic.flows(20)
            for client in traffic.clients:
                client.break_connection()
        traffic.flows(20)
        verdict = traffic.judge()
    assert all(it.sessions >= 2 for it in traffic.clients)
    assert verdict.counts["acked"] > 80


def test_traffic_that_is_away_for_longer_than_anything_is_kept(engine):
    with Traffic([engine], ports=lambda: [engine.port], prefix="away", rate=200, rooms=1,
                 pad_bytes=20) as traffic:
        traffic.flows(10)
        late = traffic.clients[-1]
        away, late.ports = late.ports, lambda: [1]
        late.break_connection()
        traffic.flows(120)
        late.ports = away
        assert traffic.judge().counts["missing, announced"] > 0


class Plant:
    """A fault in what one client hears: of message number 8, once."""

    def __init__(self, deed):
        self.deed, self.done, self.held = deed, 0, []

    def __call__(self, heard, text):
        if '"event":"message"' not in text:
            return [text]
        number = 1 + sum('"event":"message"' in it for it in heard)
        if number == 8:
            self.done += 1
        return self.deed(text, number - 8, self.held)


def drop(text, at, held):
    return [] if at == 0 else [text]


def twice(text, at, held):
    return [text, text] if at == 0 else [text]


def swap(text, at, held):
    if at == 0:
        held.append(text)
        return []
    return [text, held.pop()] if held else [text]


def change(text, at, held):
    return [text.replace('"body":[', '"body":[-1,')] if at == 0 else [text]


def mute(text, at, held):
    return [] if at >= 0 else [text]


def misdirect(text, at, held):
    to_other = {"0": "1", "1": "0"}
    other = re.sub(r'("room":"plant-\d+-)(\d)', lambda it: it[1] + to_other[it[2]], text)
    return [other] if at == 0 else [text]


@pytest.mark.parametrize("deed, kind", [
    (drop, "lost"), (twice, "duplicate"), (swap, "reordered"), (change, "phantom"),
    (mute, "lost"), (misdirect, "leak"),
])
def test_a_fault_between_engine_and_client_is_found(engine, deed, kind):
    plant = Plant(deed)
    with Between(engine, plant) as between:
        traffic = Traffic([engine], ports=lambda: [engine.port], prefix="plant", rate=100,
                          rooms=1 if deed is not misdirect else 2)
        traffic.clients[-1].ports = lambda: [between.port]
        with traffic:
            traffic.flows(60)
            # where messages are muted nobody can wait for the last
            with pytest.raises(AssertionError):
                traffic.settle(3) if deed is mute else traffic.judge()
            verdict = traffic.checker.judge()
    print(verdict)
    assert plant.done == 1 and kind in verdict.kinds()
    assert all("listener2" in text for text in verdict.faults[kind])
