"""What every client saw, and whether that is what was promised.

`Checker` records, from any thread: what was written and how that ended, and of each listener's view
of each room its joins, deliveries, notices of a gap, leaves and ends. `judge` sorts every message
of every view. A *view* outlives connections: who comes back says with `since` where it stands.

A *notice* is whatever tells a view that its run ends: `resync`, a join answered with
`complete:false`, a join without `since`. Between two notices a view must be a run: each number one
above the last. Nothing here talks to a host.
"""

import itertools
import json
import threading
import time
from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass, field

# Zero tolerance for each.
KINDS = ("lost", "gap", "duplicate", "reordered", "forked", "phantom", "leak", "hung")
SHOWN_MAX = 6
# From a request to its answer, whatever it is.
SILENT_S_MAX = 15


@dataclass
class Write:
    """One message from its first sending on; times are of one clock, None: has not happened."""

    client_id: str
    room: str
    body: object
    by: str
    sent: float | None = None
    last_sent: float = 0.0
    tries: int = 0
    connection: int = 0
    acked: float | None = None
    id: str = ""
    seq: int = 0
    unknown: float | None = None
    failed: str = ""
    slowest_s: float = 0.0

    def __str__(self):
        outcome = (
            f"acknowledged at {self.acked:.3f} as {self.seq} ({self.id})" if self.acked
            else f"refused with {self.failed}" if self.failed else "outcome unknown"
        )
        return f"{self.client_id} to {self.room}, sent at {self.sent:.3f}, {outcome}"


@dataclass
class Event:
    """Of one view. `what`: join, deliver, gap, recovered, leave, close."""

    at: float
    what: str
    told: dict

    def __str__(self):
        told = {k: v for k, v in self.told.items() if k not in ("body", "from", "messages", "room")}
        if "messages" in self.told:
            told["messages"] = [it["seq"] for it in self.told["messages"]]
        return f"{self.at:8.3f} {self.what} {told}"


@dataclass
class Run:
    """Part of a view between two notices: what came above `base`, in the order it came."""

    base: int
    since: float
    after: str  # how it began
    got: list = field(default_factory=list)  # (event's index, message)
    history: list = field(default_factory=list)  # messages from before it
    ended: float | None = None

    def top(self):
        return max([self.base, *(it["seq"] for _, it in self.got)])


class View:
    """One listener's view of one room."""

    def __init__(self, checker, who, room):
        self.checker, self.who, self.room = checker, who, room
        self.events = []
        self.position = None  # None: has never been in

    def _note(self, what, **told):
        self.events.append(Event(self.checker.now(), what, told))

    def joined(self, answer, since=None):
        """The answer of `join`, and what was asked for."""
        self._note("join", since=since, complete=answer["complete"], lastSeq=answer["lastSeq"],
                   messages=answer["messages"])
        seqs = [it["seq"] for it in answer["messages"]]
        self.position = max([answer["lastSeq"], *seqs])

    def delivered(self, message):
        self._note("deliver", **message)
        self.position = message["seq"]

    def gap(self, last_seq):
        """The engine has said that continuity is lost, and where it goes on."""
        self._note("gap", lastSeq=last_seq)
        self.position = last_seq

    def recovered(self):
        """A new connection that goes on where the last one ended."""
        self._note("recovered")

    def left(self):
        self._note("leave")
        self.position = None

    def closed(self, how=""):
        self._note("close", how=how)


class Checker:
    """Records now, judges in the end."""

    def __init__(self):
        self._begun = time.monotonic()
        self.writes, self.views = {}, {}
        self._lock = threading.Lock()

    def now(self):
        return time.monotonic() - self._begun

    def view(self, who, room):
        with self._lock:
            return self.views.setdefault((who, room), View(self, who, room))

    def invoke(self, client_id, room, body, by):
        """Before it is sent for the first time."""
        with self._lock:
            assert client_id not in self.writes, f"{client_id} is written twice"
            write = self.writes[client_id] = Write(client_id, room, body, by)
            return write

    def sent(self, write, connection):
        """Once for each sending. `connection`: which one, by a number."""
        write.last_sent = self.now()
        write.sent = write.sent if write.sent is not None else write.last_sent
        write.tries += 1
        write.connection = connection

    def _answered(self, write):
        write.slowest_s = max(write.slowest_s, self.now() - write.last_sent)

    def ok(self, write, id, seq):
        self._answered(write)
        write.acked, write.id, write.seq = self.now(), id, seq

    def unknown(self, write, answered=True):
        """`unavailable`, or the connection's end: it may be there or not."""
        if answered:
            self._answered(write)
        write.unknown = self.now()

    def fail(self, write, code):
        """An answer that says it is not there, for good."""
        self._answered(write)
        write.failed = code

    def judge(self, final=None):
        """`final`: what each room has in the end, if that is known: {room: {seq: id}}."""
        with self._lock:
            views = [_Judged(view, self.writes) for view in self.views.values()]
        return Verdict(self.writes, views, final or {})


class _Judged:
    """A view cut into its runs."""

    def __init__(self, view, writes):
        self.view, self.writes = view, writes
        self.events = list(view.events)
        self.runs, self.faults = [], []
        self.is_in, self._run = False, None
        for index, event in enumerate(self.events):
            getattr(self, f"_{event.what}")(index, event)

    def tell(self, kind, text, index=None):
        index = len(self.events) - 1 if index is None else index
        around = self.events[max(0, index - 3) : index + 3]
        marks = [f"{'>' if it is self.events[index] else ' '} {it}" for it in around]
        who = f"{self.view.who} in {self.view.room}"
        self.faults.append((kind, "\n      ".join([f"{who}: {text}", *marks])))

    def _start(self, base, event, after):
        if self._run:
            self._run.ended = event.at
        self._run = Run(base, event.at, after)
        self.runs.append(self._run)

    def _join(self, index, event):
        since, top = event.told["since"], event.told["lastSeq"]
        messages = event.told["messages"]
        self.is_in = True
        seqs = [it["seq"] for it in messages]
        if self._run and since is not None and event.told["complete"]:
            if seqs != list(range(since + 1, top + 1)) or top < since:
                self.tell("gap", f"asked for what follows {since}, was told that {seqs} up to "
                          f"{top} is all of it", index)
            self._run.got += [(index, it) for it in messages]
            return
        if seqs and seqs != list(range(seqs[0], top + 1)):
            self.tell("gap", f"{seqs} in the answer are no run up to {top}", index)
        after = "incomplete join" if since is not None else "join"
        self._start(top, event, after)
        self._run.history = messages

    def _deliver(self, index, event):
        if not self.is_in:
            return self.tell("leak", f"{event.told['seq']} came to who is not in the room", index)
        self._run.got.append((index, event.told))

    def _gap(self, index, event):
        if self.is_in:
            self._start(event.told["lastSeq"], event, "resync")

    def _recovered(self, index, event):
        self.is_in = bool(self._run)

    def _leave(self, index, event):
        self.is_in = False
        if self._run:
            self._run.ended = event.at
        self._run = None

    def _close(self, index, event):
        self.is_in = False

    def notices(self):
        return [it.since for it in self.runs[1:]]

    def every(self):
        for run in self.runs:
            yield from ((None, it) for it in run.history)
            yield from run.got


class Verdict:
    """Faults by kind, and counts of what is allowed."""

    def __init__(self, writes, views, final):
        self.writes, self.views, self.final = writes, views, final
        self.faults = {kind: [] for kind in KINDS}
        self.counts = Counter(writes=len(writes), views=len(views))
        self._places = {(it.room, it.seq): it for it in writes.values() if it.acked}
        self._breaks = defaultdict(list)
        for judged in views:
            self._breaks[judged.view.room] += judged.notices()
        for times in self._breaks.values():
            times.sort()
        for judged in views:
            self._view(judged)
            for kind, text in judged.faults:
                self.faults[kind].append(text)
        self._forks()
        self._order()
        for write in writes.values():
            self._write(write)

    def _write(self, write):
        self.counts["acked"] += write.acked is not None
        self.counts["retried"] += write.tries > 1
        if write.slowest_s > SILENT_S_MAX:
            text = f"{write}: not answered for {write.slowest_s:.1f} s"
            self.faults["hung"].append(text)

    def _view(self, judged):
        seen_ids, seen_names = set(), set()
        for run in judged.runs:
            self._run(judged, run, seen_ids, seen_names)
        for index, message in judged.every():
            self._known(judged, index, message)
        self._missing(judged, seen_ids)

    def _run(self, judged, run, seen_ids, seen_names):
        by_seq, names, top = {}, set(), run.base
        for index, it in run.got:
            self.counts["delivered"] += 1
            seq, name = it["seq"], it.get("clientId")
            if by_seq.get(seq, it["id"]) != it["id"]:
                judged.tell("forked", f"{seq} is {by_seq[seq]} and {it['id']}", index)
            elif seq in by_seq or name and name in names:
                judged.tell("duplicate", f"{name} ({it['id']}) came again", index)
            elif seq <= top:
                judged.tell("reordered", f"{seq} came after {top}", index)
            elif it["id"] in seen_ids or name in seen_names:
                self.counts["again"] += 1  # after a notice, which is allowed
            by_seq.setdefault(seq, it["id"])
            names.add(name)
            top = max(top, seq)
        seen_ids |= set(by_seq.values())
        seen_names |= names
        missing = [seq for seq in range(run.base + 1, top) if seq not in by_seq]
        for _, group in itertools.groupby(enumerate(missing), lambda it: it[1] - it[0]):
            self._hole(judged, run, [seq for _, seq in group])

    def _hole(self, judged, run, seqs):
        index = next(index for index, it in run.got if it["seq"] > seqs[-1])
        known = [self._places.get((judged.view.room, seq)) for seq in seqs]
        lost = [it for it in known if it]
        if lost:
            more = f" and {len(seqs) - 1} more" if len(seqs) > 1 else ""
            judged.tell("lost", f"{lost[0]}{more} left out without a word", index)
        else:
            judged.tell("gap", f"{seqs} left out without a word", index)

    def _known(self, judged, index, message):
        """Somebody has written it, here."""
        room, write = judged.view.room, self.writes.get(message.get("clientId"))
        if write is None:
            return judged.tell("phantom", f"nobody wrote {_short(message)}", index)
        if write.room != room:
            return judged.tell("leak", f"{write} came here", index)
        if json.dumps(write.body) != json.dumps(message["body"]):
            return judged.tell("phantom", f"{write} is changed: {_short(message)}", index)
        if write.failed:
            return judged.tell("phantom", f"{write} was delivered", index)
        if not write.acked:
            self.counts["unknown but there"] += 1

    def _missing(self, judged, seen_ids):
        """What was acknowledged and this view has not, though it is in the room to the end."""
        if not judged.is_in:
            return
        room, first = judged.view.room, judged.runs[0]
        known = seen_ids | {it["id"] for run in judged.runs for it in run.history}
        for write in self.writes.values():
            if write.room != room or not write.acked or write.id in known:
                continue
            was_before = write.seq <= first.base and write.sent < first.since
            if was_before or write.acked < first.since:
                continue
            if self._is_due(write, judged):
                judged.tell("lost", f"{write} never came")
            elif any(write.sent <= it for it in judged.notices()):
                self.counts["missing, announced"] += 1

    def _is_due(self, write, judged):
        last, final = judged.runs[-1], self.final.get(judged.view.room)
        if last.base < write.seq < last.top():
            if all(it["seq"] != write.seq for _, it in last.got):
                return False  # a hole, which is told as one
        if write.sent > last.since or len(judged.runs) == 1:
            return True
        # It was under way when the notice came, which speaks of it if it is not there in the end.
        return bool(final) and write.seq > last.base and final.get(write.seq) == write.id

    def _forks(self):
        """What follows what must be the same for everybody, and so must the newest run."""
        before, newest = {}, {}
        for judged in self.views:
            room = judged.view.room
            for run in judged.runs:
                line = [it for _, it in run.got]
                for one, two in itertools.pairwise(line):
                    if two["seq"] == one["seq"] + 1:
                        self._same(before, (room, "before", two["id"]), one, judged)
            if judged.is_in and judged.runs:
                for _, it in judged.runs[-1].got:
                    self._same(newest, (room, "as", it["seq"]), it, judged)

    def _same(self, known, place, message, judged):
        who, id = known.setdefault(place, (judged.view.who, message["id"]))
        if id != message["id"]:
            room, word, what = place
            self.faults["forked"].append(
                f"{room}: {word} {what}, {who} has {id} and {judged.view.who} {message['id']}"
            )

    def _order(self):
        rooms = defaultdict(list)
        for write in self.writes.values():
            if write.acked and not self._was_forked(write):
                rooms[write.room].append(write)
        for room, writes in rooms.items():
            self._acked_order(room, writes)
            self._sent_order(room, writes)

    def _was_forked(self, write):
        """Its number is another's in the end: what it stood before or behind says nothing."""
        return self.final.get(write.room, {}).get(write.seq, write.id) != write.id

    def _acked_order(self, room, writes):
        """What was sent after another was acknowledged stands behind it, if nothing was lost."""
        breaks, last = self._breaks[room], None
        by_ack = iter(sorted(writes, key=lambda it: it.acked))
        before = next(by_ack, None)
        for write in sorted(writes, key=lambda it: it.sent):
            while before is not None and before.acked < write.sent:
                last = before if last is None or before.seq > last.seq else last
                before = next(by_ack, None)
            if last and last.seq > write.seq and not _between(breaks, last.sent, write.acked):
                self.faults["reordered"].append(f"{write} was sent after {last}")

    def _sent_order(self, room, writes):
        """What one connection sent once stays in the order it was sent."""
        lines = defaultdict(list)
        for write in writes:
            if write.tries == 1:
                lines[(write.by, write.connection)].append(write)
        for line in lines.values():
            line.sort(key=lambda it: it.sent)
            for one, two in itertools.pairwise(line):
                broken = _between(self._breaks[room], one.sent, two.acked)
                if one.seq > two.seq and not broken:
                    self.faults["reordered"].append(f"{two} was sent behind {one}")

    def kinds(self):
        return {kind for kind, texts in self.faults.items() if texts}

    def check(self):
        """Fails with what is wrong, if anything is."""
        assert not self.kinds(), str(self)
        return self

    def __str__(self):
        lines = [", ".join(f"{count} {what}" for what, count in sorted(self.counts.items()))]
        for kind, texts in self.faults.items():
            if texts:
                lines.append(f"{kind}: {len(texts)}")
                lines += [f"    {it}" for it in texts[:SHOWN_MAX]]
        return "\n".join(lines)


def _between(times, first, last):
    """Whether one of the sorted times lies there."""
    at = bisect_right(times, first)
    return at < len(times) and times[at] <= last


def _short(message):
    return json.dumps(message)[:200]
