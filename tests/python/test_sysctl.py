"""What an operator does about the kernel: `sysctl/verify.sh` prints wanted against actual,
`apply.sh` sets it and takes it back, and `throng check` advises from the same list.

Nothing of this host is changed. What the kernel keeps per network namespace is set for real, in a
namespace of its own; what it keeps once stands in files that are mounted over /proc/sys there.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from engine import BIN

SYSCTL = Path(__file__).parents[2] / "sysctl"
APPLY, VERIFY = SYSCTL / "apply.sh", SYSCTL / "verify.sh"
SERVER, LOAD = "60-throng", "60-throng-load"
NOBODY = 65534
COLUMNS = ((0, 38), (39, 65), (66, 92), (93, None))

# Of the list: what the kernel keeps once, and shows to the first network namespace only.
FIRST_NAMESPACE_ONLY = {
    "net.core.netdev_budget",
    "net.core.netdev_max_backlog",
    "net.ipv4.tcp_max_orphans",
}


def wanted(name):
    """key: (comparison, value) of a list, read without the code under test."""
    found, how = {}, None
    for line in (SYSCTL / f"{name}.conf").read_text().splitlines():
        if opened := re.match(r"# (>=|<=|=) ", line):
            how = opened[1]
        elif setting := re.match(r"-?([a-z][\w.-]+) = ([\d ]+)$", line):
            found[setting[1]] = (how, setting[2])
    return found


def met(how, actual, value):
    pairs = [(int(a), int(v)) for a, v in zip(actual.split(), value.split(), strict=True)]
    return all(a == v or (how == ">=" and a > v) or (how == "<=" and a < v) for a, v in pairs)


def table(text):
    """key: (comparison, wanted, actual, ok) of what verify.sh prints."""
    rows = {}
    for line in text.split("\n\n")[0].splitlines()[1:]:
        key, compared, actual, ok = (line[a:b].strip() for a, b in COLUMNS)
        how, value = compared.split(" ", 1)
        rows[key] = (how, value, actual, ok)
    return rows


def run(*command, **options):
    return subprocess.run(
        [str(part) for part in command], capture_output=True, text=True, timeout=60, **options
    )


def namespaces():
    """The command that starts another in namespaces of its own, or None."""
    if shutil.which("unshare") is None:
        return None
    command = ["unshare", *([] if os.geteuid() == 0 else ["-r"]), "-n", "-m"]
    return command if run(*command, "true").returncode == 0 else None


NAMESPACES = namespaces()
apart = pytest.mark.skipif(NAMESPACES is None, reason="namespaces need root, or to be allowed")


class Host:
    """A host for the scripts: the lines given run in a shell, in namespaces of their own."""

    def __init__(self, folder, mounts):
        self.folder = folder
        self.mounts = mounts
        self.root = folder / "root"
        self.root.mkdir()

    def run(self, script):
        names = f"apply='{APPLY} --root {self.root}'; verify={VERIFY}; throng={BIN}\n"
        prelude = f"exec 2>&1; set -e; {names}"
        ended = run(*NAMESPACES, "sh", "-c", prelude + self.mounts + "set +e\n" + script)
        return ended.stdout, ended.returncode

    def dropin(self, name=SERVER):
        return self.root / f"etc/sysctl.d/{name}.conf"

    def files(self):
        return sorted(str(p.relative_to(self.root)) for p in self.root.rglob("*") if p.is_file())


@pytest.fixture
def netns(tmp_path):
    """The kernel's own settings, as far as a network namespace has them; files for the rest."""
    mounts = ""
    for key in ("fs/nr_open", "fs/file-max", "vm/min_free_kbytes"):
        fake = tmp_path / key.replace("/", "-")
        fake.write_text("1\n")
        mounts += f"mount --bind {fake} /proc/sys/{key}\n"
    (tmp_path / "empty").mkdir()
    tracking = "/proc/sys/net/netfilter"
    mounts += f"[ ! -e {tracking} ] || mount --bind {tmp_path}/empty {tracking}\n"
    return Host(tmp_path, mounts)


@pytest.fixture
def files(tmp_path):
    """A host all of whose settings are files that say 1 or as many as are wanted."""
    fake = tmp_path / "sys"
    for key, (_, value) in (wanted(SERVER) | wanted(LOAD)).items():
        path = fake / key.replace(".", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join("1" for _ in value.split()) + "\n")
    (fake / "kernel").mkdir()
    shutil.copy("/proc/sys/kernel/osrelease", fake / "kernel")
    host = Host(tmp_path, f"mount --bind {fake} /proc/sys\n")
    host.fake = fake
    host.read = lambda key: (fake / key.replace(".", "/")).read_text().strip()
    host.write = lambda key, value: (fake / key.replace(".", "/")).write_text(f"{value}\n")
    return host


@pytest.mark.parametrize("name", [SERVER, LOAD])
def test_verify_prints_each_setting_and_fails_if_one_is_not_as_wanted(name):
    ended = run(VERIFY, *(["--load-generator"] if name == LOAD else []))
    rows, list_ = table(ended.stdout), wanted(name)
    assert list(rows) == list(list_), ended.stdout + ended.stderr
    missing = 0
    for key, (how, value, actual, ok) in rows.items():
        assert (how, value) == list_[key]
        if actual == "none":
            assert ok == "not needed" and "conntrack" in key
        else:
            now = Path("/proc/sys", key.replace(".", "/")).read_text().split()
            assert actual.split() == now
            assert ok == ("yes" if met(how, actual, value) else "NO"), key
        missing += ok == "NO"
    assert ended.returncode == (1 if missing else 0)
    assert "ListenOverflows" in ended.stdout and "softnet drops" in ended.stdout


def test_verify_looks_at_a_process():
    with subprocess.Popen(["sleep", "60"]) as sleeper:
        try:
            ended = run("prlimit", "--nofile=1000", f"--pid={sleeper.pid}")
            assert ended.returncode == 0, ended.stderr
            ended = run(VERIFY, "--pid", sleeper.pid)
        finally:
            sleeper.kill()
    files = re.search(r"^open files \(hard\) +>= 1048576 +1000 +NO$", ended.stdout, re.M)
    assert files, ended.stdout
    assert re.search(r"^locked memory", ended.stdout, re.M)
    assert ended.returncode == 1
    assert run(VERIFY, "--pid", "999999999").returncode == 2


def test_a_dry_run_needs_no_root_and_changes_nothing(tmp_path):
    def values():
        return {key: Path("/proc/sys", key.replace(".", "/")) for key in wanted(SERVER)}

    before = {key: path.read_text() for key, path in values().items() if path.exists()}
    user = {"user": NOBODY} if os.geteuid() == 0 else {}
    ended = run(APPLY, "--dry-run", "--root", tmp_path, **user)
    after = {key: path.read_text() for key, path in values().items() if path.exists()}
    for key, (how, value) in wanted(SERVER).items():
        if key in before:
            named = re.search(rf"^would set  {re.escape(key)}: ", ended.stdout, re.M)
            assert bool(named) != met(how, before[key], value), ended.stdout
    assert before == after and list(tmp_path.iterdir()) == []
    assert ended.returncode in (0, 1), ended.stderr


@pytest.mark.parametrize("action", [[], ["--undo"], ["--runtime"]])
def test_without_root_nothing_is_tried(tmp_path, action):
    user = {"user": NOBODY} if os.geteuid() == 0 else {}
    ended = run(APPLY, "--root", tmp_path, *action, **user)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert "root" in ended.stderr and list(tmp_path.iterdir()) == []


def test_arguments_that_are_not_understood_are_refused():
    for program in (APPLY, VERIFY):
        assert run(program, "--help").stdout.startswith(f"Usage: {program.name}")
        ended = run(program, "--hlep")
        assert ended.returncode == 2 and "--hlep" in ended.stderr
    assert run(APPLY, "--undo", "--runtime", "--dry-run").returncode == 2


@apart
def test_the_kernel_takes_the_settings_and_has_its_own_back(netns):
    show = "cd /proc/sys; for it in net/core/[is]* net/ipv4/[it]*; do echo $it $(cat $it); done\n"
    output, code = netns.run(
        f"{show} echo ----; $apply; echo applied $?; echo ----; $verify; echo ----\n"
        f"$apply --undo; echo undone $?; echo ----; {show}"
    )
    before, applied, verified, undone, after = output.split("----\n")
    # What this namespace cannot see is named; everything else is set.
    assert "applied 1\n" in applied and "undone 0\n" in undone, output
    for key, (_, _, actual, ok) in table(verified).items():
        absent = key in FIRST_NAMESPACE_ONLY
        tracking = "conntrack" in key
        assert ok == ("NO" if absent else "not needed" if tracking else "yes"), output
        assert (actual == "not to be seen") == absent
    assert before == after
    failed = set(re.findall(r"^FAILED  ([\w.]+): ", output, re.M))
    assert failed == FIRST_NAMESPACE_ONLY
    assert netns.files() == []


@apart
def test_what_was_set_holds_after_a_boot_and_twice_is_as_once(files):
    files.write("net.ipv4.tcp_rmem", "4096 131072 6291456")
    output, code = files.run("$apply && $verify")
    assert code == 0, output
    first = files.dropin().read_text()
    output, code = files.run("$apply")
    assert code == 0 and "0 set, 0 failed" in output
    assert files.dropin().read_text() == first

    files.write("net.core.somaxconn", 4096)
    files.write("net.ipv4.tcp_rmem", "4096 131072 6291456")
    if shutil.which("sysctl"):
        output, code = files.run(f"sysctl --load={files.dropin()} && $verify")
        assert code == 0, output
        assert files.read("net.ipv4.tcp_rmem") == "4096 16384 262144"
    output, code = files.run("$apply --undo")
    assert code == 0 and files.files() == [], output
    assert "4096 131072 6291456" in output
    output, code = files.run("$apply --undo")
    assert code == 0 and "0 put back, 0 failed" in output


@apart
def test_better_values_stay_and_stay_out_of_the_file(files):
    files.write("fs.file-max", 9223372036854775807)
    files.write("net.ipv4.tcp_wmem", "8192 8192 4194304")
    files.write("net.ipv4.tcp_fin_timeout", 15)
    output, code = files.run("$apply && $verify")
    assert code == 0, output
    assert files.read("fs.file-max") == "9223372036854775807"
    assert files.read("net.ipv4.tcp_wmem") == "4096 8192 131072"
    assert files.read("net.ipv4.tcp_fin_timeout") == "15"
    lines = files.dropin().read_text().splitlines()
    assert "net.ipv4.tcp_wmem = 4096 8192 131072" in lines
    assert "-net.netfilter.nf_conntrack_max = 2097152" in lines
    assert not [line for line in lines if re.match(r"fs.file-max|net.ipv4.tcp_fin_timeout", line)]


@apart
def test_undo_leaves_what_somebody_else_has_changed_since(files):
    output, code = files.run("$apply")
    assert code == 0, output
    files.write("net.core.somaxconn", 30000)
    output, code = files.run("$apply --undo")
    assert code == 0 and "left  net.core.somaxconn: somebody else has made it 30000" in output
    assert files.read("net.core.somaxconn") == "30000"
    assert files.read("net.ipv4.tcp_max_syn_backlog") == "1"


@apart
def test_a_setting_that_refuses_is_named_and_the_others_are_set(files):
    locked = files.fake / "net/core/somaxconn"
    over = "/proc/sys/net/core/somaxconn"
    files.mounts += f"mount --bind {locked} {over}; mount -o remount,bind,ro {over}\n"
    output, code = files.run("$apply")
    assert code == 1, output
    assert re.findall(r"^FAILED  (.*): ", output, re.M) == [
        "net.core.somaxconn: 1 -> 65535"
    ], output
    output, code = files.run("$verify")
    assert code == 1 and [k for k, row in table(output).items() if row[3] == "NO"] == [
        "net.core.somaxconn"
    ]
    assert "somaxconn" not in files.dropin().read_text()
    output, code = files.run("$apply --undo")
    assert code == 0 and files.files() == [], output
    assert {files.read(key).replace("1", "").strip() for key in wanted(SERVER)} == {""}


@apart
def test_until_the_next_boot_writes_no_file(files):
    output, code = files.run("$apply --runtime && $verify")
    assert code == 0 and not files.dropin().exists(), output
    output, code = files.run("$apply --undo")
    assert code == 0 and files.read("net.core.somaxconn") == "1"


@apart
def test_the_generators_host_has_its_own_list(files):
    output, code = files.run("$apply --load-generator && $verify --load-generator")
    assert code == 0, output
    assert files.read("net.ipv4.ip_local_port_range") == "1024 65535"
    assert files.read("net.core.somaxconn") == "1", "that is the server's"
    output, code = files.run("$apply --undo --load-generator")
    assert code == 0 and files.read("net.ipv4.ip_local_port_range") == "1 1"


@apart
def test_a_file_that_somebody_else_wrote_is_not_touched(files):
    files.dropin().parent.mkdir(parents=True)
    files.dropin().write_text("net.core.somaxconn = 5\n")
    for action in ("", "--undo", "--dry-run"):
        output, code = files.run(f"$apply {action}")
        assert code == 2 and "not written by apply.sh" in output
    assert files.dropin().read_text() == "net.core.somaxconn = 5\n"
    assert files.read("net.core.somaxconn") == "1"


@apart
def test_check_names_a_setting_that_is_too_small(netns):
    lower = "echo 128 >/proc/sys/net/core/somaxconn\n"
    output, code = netns.run(f"{lower} $throng check")
    assert code == 0, output
    said = r"^  net\.core\.somaxconn is 128, wanted at least 65535: \w.*"
    assert re.search(said, output, re.M), output
    output, code = netns.run(f"{lower} $throng check --strict")
    assert code == 1 and re.search(said, output, re.M), output
    output, code = netns.run(f"{lower} MAX_CONNECTIONS=1000 $throng check --strict")
    assert code == 0 and "wanted at least" not in output, output


@apart
def test_check_and_verify_agree(files):
    for key in ("net.ipv4.tcp_rmem", "net.ipv4.tcp_notsent_lowat"):
        files.write(key, " ".join("9999999" for _ in files.read(key).split()))
    output, _ = files.run("$verify; echo ====; $throng check")
    verified, checked = output.split("====\n")
    wrong = [key for key, row in table(verified).items() if row[3] == "NO"]
    assert re.findall(r"^  ([a-z]\w*\.[\w.-]+) is ", checked, re.M) == wrong
    assert "net.ipv4.tcp_rmem" in wrong and len(wrong) > 10
    output, code = files.run("$apply >/dev/null && MAX_WORKERS=200 $throng check --strict")
    assert code == 0 and re.search(r"^sysctl +ok", output, re.M), output


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck_finds_nothing():
    ended = run("shellcheck", "-x", *SYSCTL.glob("*.sh"))
    assert ended.returncode == 0, ended.stdout
