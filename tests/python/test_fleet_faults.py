"""Proves that a fleet of three hosts keeps what it promises while Redis, the network or a host
fails: nothing acknowledged is lost without a word, nothing comes twice, out of order, from nowhere
or to the wrong ones; and each fault ends as its row of the fault table says. Names are those of the
table (R: Redis, E: engine); failovers are in test_fleet_redis.py.
"""

import random
import threading
import time

import pytest
from engine import eventually
from fleet.hosts import HOST_TTL_S, Hosts, agree
from fleet.netns import Apart, NotPermitted
from fleet.redis import Redis, have_redis
from fleet.traffic import Traffic, seed
from fleet.world import World
from plain import Plain

pytestmark = pytest.mark.skipif(not have_redis(), reason="redis-server is not installed")

# Of several faults, each of which may take as long as one is allowed to.
LONG = pytest.mark.timeout(480)
# The probe goes out each second and is back within two, an answer within three.
NOTICED_S_MAX = 10
# Whoever waits for Redis is told after ten seconds.
REFUSED_S_MAX = 15


@pytest.fixture
def world(request):
    with World(**getattr(request, "param", {})) as made:
        yield made


def with_world(**options):
    return pytest.mark.parametrize("world", [options], indirect=True)


# R1, R2: Redis dies


def test_r1_redis_comes_back_empty(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        died = traffic.checker.now()
        world.redis.kill()
        for host in world.hosts:
            world.hosts.until_unready(host, 3)
        with Plain(world.hosts[0].port, "ann") as ann:
            answer = ann.call("join", {"room": traffic.rooms[0]}, timeout=REFUSED_S_MAX)
            assert answer["ok"] or answer["error"]["code"] == "unavailable", answer

        def refused():
            assert traffic.refusals() > 0, "publishes wait and nobody is told"

        eventually(refused, REFUSED_S_MAX)
        world.redis.start()
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        assert traffic.untold(died) == []


@with_world(aof=True)
def test_r2_redis_comes_back_with_everything(world):
    with Traffic(world.hosts) as traffic:
        for _ in range(3):
            traffic.flows()
            world.redis.restart(down_s=0.3)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        # What was acknowledged was on disk: there is nothing to be told of.
        traffic.nobody_missed_anything()


@with_world(aof=True)
def test_r2_redis_comes_back_without_its_last_messages(world):
    with Traffic(world.hosts, rooms=1) as traffic:
        traffic.flows(60)
        traffic.pause()
        died = traffic.checker.now()
        world.redis.kill()
        assert world.redis.cut_tail(6000) == 6000
        world.redis.start()
        world.hosts.until_ready()
        traffic.resume()
        traffic.flows()
        traffic.judge()
        assert traffic.untold(died) == []


# R3: nothing comes, and nobody says so


def test_r3_redis_stops(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        visitors = [Plain(it.port, "visitor") for it in world.hosts]
        for it in visitors:
            it.ok("join", {"room": "visited"})
        world.redis.pause()
        # Before anybody knows: commands are under way, and a shard must not wait for them.
        for host, visitor in zip(world.hosts, visitors):
            at_once(host, "a refusal", lambda: visitor.refused("nonsense", {}, "unknown_event"))
            at_once(host, "/health", lambda: _same(host.get("/health")[0], 200))
        for host in world.hosts:
            world.hosts.until_unready(host, NOTICED_S_MAX)
        for host, visitor in zip(world.hosts, visitors):
            nothing_hangs(host, visitor)
        world.redis.go_on()
        for it in visitors:
            it.close()
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


# Of what a shard does alone: less than Redis is waited for by far, and more than a machine needs
# that has much else to do.
ALONE_S_MAX = 1.5
# Asked so often: one that is late may be the machine's fault, half of them is not.
TRIES = 7


def nothing_hangs(host, visitor):
    """What needs no Redis is done at once, and what does is refused in time. `visitor` has been
    there since before.
    """
    for path, wanted in (("/metrics", [200]), ("/alerts", [200]), ("/api/rooms", [503, 200])):
        begun = time.monotonic()
        assert host.get(path)[0] in wanted, path
        took_s = time.monotonic() - begun
        assert took_s < 4.5, f"{host} took {took_s:.1f} s for {path}"
    at_once(host, "a refusal", lambda: visitor.refused("nonsense", {}, "unknown_event"))
    at_once(host, "a list", lambda: visitor.ok("participants", {"room": "visited"}))
    at_once(host, "/health", lambda: _same(host.get("/health")[0], 200))
    at_once(host, "a new connection", lambda: Plain(host.port, "visitor").close())


def at_once(host, what, deed):
    """The median says it: a shard that waits for Redis is late each time."""
    took_s = []
    for _ in range(TRIES):
        begun = time.monotonic()
        deed()
        took_s.append(time.monotonic() - begun)
    median_s = sorted(took_s)[TRIES // 2]
    print(f"{host}: {what} took {median_s * 1000:.1f} ms, {max(took_s) * 1000:.1f} at most")
    assert median_s < ALONE_S_MAX, f"{host}: {what} takes {median_s:.1f} s: {took_s}"


def _same(found, wanted):
    assert found == wanted


@pytest.mark.parametrize("late", [True, False])
def test_r3_one_host_in_a_hole(world, late):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        world.proxies[0].blackhole()
        world.hosts.until_unready(world.hosts[0], NOTICED_S_MAX)
        traffic.flows()
        assert world.hosts[1].ready() and world.hosts[2].ready()
        # `late`: what the host has given up arrives after all, as dropped packets do.
        world.proxies[0].heal(late=late)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


def test_r3_only_what_redis_tells_is_in_a_hole(world):
    """Everything seems well: publishes are answered, and nothing is heard any more."""
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        for it in world.proxies[:2]:
            it.blackhole(lambda connection: connection.is_push)
        for host in world.hosts.all[:2]:
            world.hosts.until_unready(host, NOTICED_S_MAX)
        for it in world.proxies[:2]:
            it.heal()
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


@with_world(HISTORY_SIZE="20")
def test_r3_one_host_in_a_hole_for_longer_than_messages_are_kept(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        begun = traffic.checker.now()
        world.proxies[0].blackhole()
        world.hosts.until_unready(world.hosts[0], NOTICED_S_MAX)
        traffic.flows(100)
        world.proxies[0].heal()
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        there = [it for it in traffic.clients if it.sessions == 1 and it.home % 3 == 0]
        assert there, "nobody stayed on the host"
        for client in there:
            for room in client.rooms:
                assert f"{client.user} in {room}" not in traffic.untold(begun)


def test_r3_packets_are_dropped():
    try:
        apart = Apart().__enter__()
    except NotPermitted as error:
        pytest.skip(f"no network namespace with nftables here: {error}")
    try:
        with Redis(host=apart.address, before=apart.before) as redis:
            with Hosts([redis.url] * 3, HISTORY_SIZE="5000") as hosts:
                with Traffic(hosts) as traffic:
                    traffic.flows()
                    apart.drop()
                    for host in hosts:
                        hosts.until_unready(host, NOTICED_S_MAX)
                    apart.pass_again()
                    hosts.until_ready()
                    traffic.flows()
                    traffic.judge()
                    traffic.nobody_missed_anything()
    finally:
        apart.__exit__()


def test_r3_what_waits_for_redis_has_an_end(world):
    """The newest is refused at once, the rest in time, and memory has a bound."""
    room, count = "flood", 3000
    with Plain(world.hosts[0].port, "ann") as ann, Plain(world.hosts[1].port, "bob") as bob:
        ann.ok("join", {"room": room}), bob.ok("join", {"room": room})
        memory = world.hosts[0].memory_kb()
        world.proxies[0].blackhole()
        waiting = [
            ann.say("message", {"room": room, "body": [n, "x" * 60_000], "clientId": f"c{n}"})
            for n in range(count)
        ]
        waiting[-1].result(5)
        grown = world.hosts[0].memory_kb() - memory
        assert grown < 600_000, f"{grown} kB for {count} messages of 60 kB"
        bob.write(room, "still here")
        answers = [it.result(30) for it in waiting]
        assert {it["ok"] or it["error"]["code"] for it in answers} == {"unavailable"}
        world.proxies[0].heal()
        world.hosts.until_ready()
        last = ann.write(room, "last")["seq"]

        def same():
            for client in (ann, bob):
                seqs = [it["seq"] for it in client.messages]
                assert seqs == list(range(1, last + 1)), seqs

        eventually(same)


# R4: slow


def test_r4_redis_is_far_away(world):
    with Traffic(world.hosts, rate=20) as traffic:
        traffic.flows()
        for proxy in world.proxies:
            proxy.delay(0.2, 0.15)
        traffic.flows(60, seconds=20)
        for proxy in world.proxies:
            proxy.delay(0)
        traffic.flows()
        verdict = traffic.judge()
        traffic.nobody_missed_anything()
        assert verdict.counts["retried"] == 0


def test_r4_redis_pauses_and_sleeps(world):
    with Traffic(world.hosts) as traffic:
        for deed in (["CLIENT", "PAUSE", "1200", "ALL"], ["DEBUG", "SLEEP", "1.2"],
                     ["CLIENT", "PAUSE", "1200", "WRITE"]):
            traffic.flows()
            world.redis.ask(*deed)
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


def test_r4_answers_come_after_they_are_given_up(world):
    with Traffic(world.hosts, rate=20) as traffic:
        traffic.flows()
        world.proxies[1].delay(4.5)
        time.sleep(5)
        world.proxies[1].delay(0)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


# R5: the answer is lost, the message is not


def test_r5_the_answer_is_lost_after_the_commit(world):
    room = "r5"
    with Plain(world.hosts[0].port, "ann") as ann, Plain(world.hosts[1].port, "bob") as bob:
        ann.ok("join", {"room": room}), bob.ok("join", {"room": room})
        ann.write(room, "first")
        for n in range(3):
            names = [f"marker-{n}-{part}" for part in "abcde"]
            trap = world.proxies[0].cut_before_reply(containing=names[2].encode())
            waiting = [
                ann.say("message", {"room": room, "body": name, "clientId": name})
                for name in names
            ]
            trap.wait()
            answers = [it.result(REFUSED_S_MAX) for it in waiting]
            assert all(it["ok"] for it in answers), answers
            seqs = [it["seq"] for it in answers]
            assert seqs == list(range(2 + 5 * n, 7 + 5 * n)), seqs
            for name in names:
                found = world.entries_with(room, name)
                assert len(found) == 1, f"{name} is there {len(found)} times: {found}"
            again = ann.write(room, names[2], names[2])
            assert (again["id"], again["seq"]) == (answers[2]["id"], answers[2]["seq"])
        wanted = ["first"] + [f"marker-{n}-{part}" for n in range(3) for part in "abcde"]

        def all_came():
            for client in (ann, bob):
                assert client.bodies(room) == wanted

        eventually(all_came)


@LONG
def test_r5_under_traffic(world):
    with Traffic(world.hosts) as traffic:
        for n in range(9):
            traffic.flows(10)
            room = traffic.rooms[n % 2].encode()
            world.proxies[n % 3].cut_before_reply(containing=room).wait()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


@LONG
def test_connections_are_cut_again_and_again(world):
    with Traffic(world.hosts) as traffic:
        chance = random.Random(traffic.seed)
        for _ in range(15):
            traffic.flows(8)
            only = chance.choice([lambda it: it.is_push, lambda it: not it.is_push,
                                  lambda it: True])
            chance.choice(world.proxies).cut(only)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


@LONG
@pytest.mark.parametrize("kinds", [["normal"], ["pubsub"], ["normal", "pubsub"]])
def test_redis_ends_all_its_clients(world, kinds):
    """What an operator does by CLIENT KILL: commands under way, subscriptions, or both, of all
    hosts at once.
    """
    with Traffic(world.hosts, rate=60) as traffic:
        for turn in range(6):
            traffic.flows(20)
            ended = sum(world.redis.ask("CLIENT", "KILL", "TYPE", it) for it in kinds)
            # Whoever has lost one ends the other, perhaps before Redis does.
            assert ended >= len(world.hosts), f"only {ended} had come back"
            eventually(lambda: came_back(world.hosts, turn + 1))
            world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()
        for host in world.hosts:
            redis = host.json("/metrics")["redis"]
            assert redis["repairs"] > 0, redis
            assert redis["forks"] == redis["broken"] == 0, redis
        for room in traffic.rooms:
            agree(world.hosts, room, traffic.sids())


def came_back(hosts, times):
    """Each has lost its connections so often, and has new ones."""
    for host in hosts:
        redis = host.json("/metrics")["redis"]
        assert redis["breaks"] >= times and redis["connects"] > times and redis["up"], redis


# R9 to R13: what Redis says instead of doing it


def test_r9_every_redial_is_refused_for_a_while(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        world.proxies[0].refuse(5)
        world.hosts.until_unready(world.hosts[0], 3)
        traffic.flows()
        world.hosts.until_ready(15)
        for proxy in world.proxies:
            proxy.refuse(1)
        time.sleep(1)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


# What comes late comes at once: to clients that read, it is no reason to be closed.
@with_world(receive_bytes=65536, OUTBOX_BYTES="64MiB")
def test_r10_redis_ends_a_subscriber_that_does_not_read(world):
    world.redis.ask("CONFIG", "SET", "client-output-buffer-limit", "pubsub 1mb 512kb 2")
    with Traffic(world.hosts, rooms=1, rate=60, pad_bytes=40_000) as traffic:
        traffic.flows()
        accepted = world.proxies[0].accepted
        world.proxies[0].stop_reading(lambda it: it.is_push)

        def ended():
            assert "output buffer limits" in world.redis.output(), "Redis bears it"
            assert world.proxies[0].accepted > accepted, "the host has not come again"

        eventually(ended, 15)
        world.proxies[0].read_on()
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


@LONG
def test_r11_scripts_are_flushed(world):
    with Traffic(world.hosts) as traffic:
        for _ in range(8):
            traffic.flows(10)
            world.redis.ask("SCRIPT", "FLUSH")
        traffic.flows()
        verdict = traffic.judge()
        traffic.nobody_missed_anything()
        assert verdict.counts["retried"] == 0


def out_of_memory(redis):
    redis.ask("CONFIG", "SET", "maxmemory", "1")
    return lambda: redis.ask("CONFIG", "SET", "maxmemory", "0")


def read_only(redis):
    redis.ask("REPLICAOF", "127.0.0.1", "1")
    return lambda: redis.ask("REPLICAOF", "NO", "ONE")


def disk_failed(redis):
    """Its snapshot cannot be written, and so it takes no more writes."""
    redis.ask("CONFIG", "SET", "save", "3600 1")
    (redis.folder / "dump.rdb").mkdir()
    redis.ask("BGSAVE")
    eventually(lambda: _has(redis.info("persistence"), "rdb_last_bgsave_status", "err"))
    return lambda: redis.ask("CONFIG", "SET", "save", "")


def _has(found, key, value):
    assert found[key] == value, found[key]


@pytest.mark.parametrize("begin", [out_of_memory, read_only, disk_failed])
def test_r12_redis_refuses(world, begin):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        end = begin(world.redis)
        if begin is read_only:
            for host in world.hosts:
                world.hosts.until_unready(host, NOTICED_S_MAX)
        time.sleep(0.5)  # what was under way
        before = traffic.acked()
        time.sleep(2.5)
        assert traffic.acked() == before, "acknowledged while Redis took nothing"
        end()
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


def test_r12_redis_is_busy_with_a_script(world):
    world.redis.ask("CONFIG", "SET", "lua-time-limit", "50")
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        busy = threading.Thread(target=_busy, args=[world.redis], daemon=True)
        busy.start()
        time.sleep(2.5)
        world.redis.ask("SCRIPT", "KILL")
        busy.join(10)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


def _busy(redis):
    try:
        redis.ask("EVAL", "while true do end", 0, timeout=20)
    except Exception as error:
        assert "killed" in str(error), error


def test_r12_redis_is_loading(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        traffic.pause()
        world.redis.ask("EVAL", "for n = 1, 400 do redis.call('SET', 'fill:' .. n, "
                        "string.rep('x', 200)) end", 0)
        world.redis.ask("SAVE")
        world.redis.kill()
        traffic.resume()
        slow = ["--key-load-delay", "6000", "--loading-process-events-interval-bytes", "1024"]
        world.redis.start(wait=False, more=slow)
        world.redis.until_up()
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()


def test_r13_a_rooms_meta_is_evicted(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows(60)
        evicted = traffic.checker.now()
        for room in traffic.rooms:
            assert world.redis.ask("DEL", world.key("meta", room)) == 1
        traffic.flows(60)
        traffic.judge()
        assert traffic.untold(evicted) == []


def test_r13_a_rooms_stream_is_evicted(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        for n in range(3):
            for room in traffic.rooms:
                world.redis.ask("DEL", world.key("stream", room))
            traffic.flows(6)
            world.proxies[n].cut()
            traffic.flows()
        traffic.judge()


# Each is wrong in itself: well-formed answers that nobody has asked for cannot be told from right
# ones.
GARBAGE = {
    "no type": b"?what\r\n", "no number": b":abc\r\n", "no end": b"$5\r\nabcdefgh\r\n",
    "too long": b"$999999999999999\r\n", "many": b"*2000000000\r\n", "deep": b"*1\r\n" * 100_000,
    "zeros": bytes(1000),
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "odd pushes": b">0\r\n>1\r\n$7\r\nmessage\r\n>3\r\n+message\r\n:1\r\n_\r\n",
}


def test_r14_redis_talks_nonsense(world):
    with Traffic(world.hosts) as traffic:
        memory = world.hosts[0].memory_kb()
        for name, data in GARBAGE.items():
            traffic.flows(6)
            world.hosts.until_ready()
            print(f"{traffic.checker.now():8.3f} {name}")
            accepted = world.proxies[0].accepted
            world.proxies[0].garble(data)

            def dropped():
                assert world.proxies[0].accepted > accepted, f"{name}: taken for good"

            eventually(dropped, 15)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()
        assert world.hosts[0].memory_kb() < memory + 64_000


# E3 to E5: a host ends


def ends_well(host, seconds=12):
    code = host.process.wait(seconds)
    assert code == 0, f"{host} ended with {code}\n{host.output()}"


def test_e3_a_host_is_told_to_end(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        world.hosts[0].terminate()
        ends_well(world.hosts[0])
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()
        for room in traffic.rooms:
            agree(world.hosts, room, traffic.sids())
    assert all(it.port != world.hosts[0].port for it in traffic.clients)


def test_e4_a_host_is_killed(world):
    with Traffic(world.hosts) as traffic:
        traffic.flows()
        before = traffic.sids()
        killed = time.monotonic()
        world.hosts[0].kill9()
        traffic.flows()
        for room in traffic.rooms:
            agree(world.hosts, room, traffic.sids(), HOST_TTL_S + 8)
        print(f"its members were gone after {time.monotonic() - killed:.1f} s")
        traffic.judge()
        traffic.nobody_missed_anything()
        assert len(traffic.sids()) == len(before)


@LONG
def test_e5_all_hosts_restart_one_after_the_other(world):
    with Traffic(world.hosts) as traffic:
        for n in range(3):
            traffic.flows(20)
            world.hosts[n].terminate()
            ends_well(world.hosts[n])
            world.hosts.replace(n)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()
        for room in traffic.rooms:
            agree(world.hosts, room, traffic.sids())


@LONG
def test_e5_all_hosts_are_killed_one_after_the_other(world):
    with Traffic(world.hosts) as traffic:
        for n in range(3):
            traffic.flows(20)
            world.hosts[n].kill9()
            traffic.flows(10)
            world.hosts.replace(n)
        world.hosts.until_ready()
        traffic.flows()
        traffic.judge()
        traffic.nobody_missed_anything()
        for room in traffic.rooms:
            agree(world.hosts, room, traffic.sids(), HOST_TTL_S + 8)


@LONG
@with_world(aof=True, RECOVERY_WINDOW="2m")
def test_everything_in_any_order(world):
    """Faults drawn by lot; what is mended must be whole."""
    drawn = seed()
    lot = random.Random(drawn)
    with Traffic(world.hosts, recoverers=2, listeners=2, seed_=drawn) as traffic:
        for _ in range(12):
            traffic.flows(10, seconds=25)
            deed = lot.choice(DEEDS)
            print(f"{traffic.checker.now():8.3f} {deed.__name__}")
            deed(world, lot)
        for it in world.proxies:
            it.heal()
        world.hosts.until_ready(30)
        traffic.flows()
        traffic.judge()
        for room in traffic.rooms:
            agree(world.hosts, room, traffic.sids(), HOST_TTL_S + 8)


def cut_one(world, lot):
    lot.choice(world.proxies).cut()


def cut_all(world, lot):
    for it in world.proxies:
        it.cut()


def lose_an_answer(world, lot):
    lot.choice(world.proxies).cut_before_reply()


def refuse_one(world, lot):
    lot.choice(world.proxies).refuse(lot.uniform(0.1, 1.5))


def hole_of_one(world, lot):
    proxy = lot.choice(world.proxies)
    proxy.blackhole()
    time.sleep(lot.uniform(0.2, 4))
    proxy.heal(late=lot.random() < 0.5)


def restart_redis(world, lot):
    world.redis.restart(lot.uniform(0, 0.5))


def pause_redis(world, lot):
    world.redis.pause()
    time.sleep(lot.uniform(0.2, 4))
    world.redis.go_on()


def flush_scripts(world, lot):
    world.redis.ask("SCRIPT", "FLUSH")


def kill_a_host(world, lot):
    n = lot.randrange(3)
    world.hosts[n].kill9()
    world.hosts.replace(n)


DEEDS = [cut_one, cut_all, lose_an_answer, refuse_one, hole_of_one, restart_redis, pause_redis,
         flush_scripts, kill_a_host]
