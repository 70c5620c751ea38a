# SPDX-License-Identifier: MIT
"""Firmware updates: RAUC installs a bundle, and what matters has left before the reboot."""
import hashlib
import os
import shutil
import subprocess

from devices import PORT, TOP, Failure, Skip, read, wait_for
from fleet import expect_on, fleet
from triggers_test import environment

HOOKS = f"{TOP}/board/failover"

SYSTEM = """
[system]
compatible=Test Gateway
bootloader=noop
statusfile={folder}/rauc.status
mountprefix={folder}/rauc.mnt

[keyring]
path={folder}/ca.pem

[handlers]
pre-install={folder}/pre
post-install={folder}/post

[slot.rootfs.0]
device={folder}/slot0
type=raw
bootname=A

[slot.rootfs.1]
device={folder}/slot1
type=raw
bootname=B
"""

BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>system</type><listen>unix:path={folder}/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/>
<allow send_type="signal"/><allow send_requested_reply="true" send_type="method_return"/>
<allow send_requested_reply="true" send_type="error"/><allow receive_type="method_call"/>
<allow receive_type="method_return"/><allow receive_type="error"/><allow receive_type="signal"/></policy></busconfig>
"""


SWUPDATE = """
globals :
{{
	bootloader = "none";
	preupdatecmd = "{folder}/pre";
	postupdatecmd = "{folder}/post";
}};
"""

SW_DESCRIPTION = """
software =
{{
	version = "2";
	hardware-compatibility: [ "1.0" ];
	files: ( {{ filename = "firmware"; path = "{folder}/installed"; sha256 = "{sha256}"; }} );
}}
"""


def must(*command, **kw):
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, **kw)
    if done.returncode:
        raise Failure(f"{command[0]}: exit {done.returncode}: {(done.stderr or done.stdout).strip()[-400:]}")
    return done.stdout


def make_bundle(folder):
    content = f"{folder}/content"
    os.mkdir(content)
    with open(f"{content}/rootfs.img", "wb") as f:
        f.write(b"the new system" * 5000)
    with open(f"{content}/manifest.raucm", "w") as f:
        f.write("[update]\ncompatible=Test Gateway\nversion=2\n\n[bundle]\nformat=plain\n\n"
                "[image.rootfs]\nfilename=rootfs.img\n")
    must("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{folder}/key.pem",
         "-out", f"{folder}/ca.pem", "-subj", "/CN=test", "-days", "3650")
    must("rauc", "--cert", f"{folder}/ca.pem", "--key", f"{folder}/key.pem", "bundle", content,
         f"{folder}/update.raucb")


def handler(pair, folder, name, hook):
    """RAUC's service hands its own environment on, which is none of a shell: the settings are named here."""
    path = f"{folder}/{name}"
    with open(path, "w") as f:
        f.write(f"#!/bin/sh\necho {name} >>{folder}/called\nBATON_FAILOVER={pair.folder}/failover exec {HOOKS}/{hook}\n")
    os.chmod(path, 0o755)


def rauc_install(pair, folder):
    env = environment(pair, DBUS_SYSTEM_BUS_ADDRESS=f"unix:path={folder}/bus", DBUS_STARTER_BUS_TYPE="system")
    service = pair.a.start(["rauc", "--conf", f"{folder}/system.conf", "--override-boot-slot=A", "service"],
                           env=env, name="rauc-service")
    def is_there():
        return "ServiceUnknown" not in pair.a.run(["rauc", "status"], env=env).stderr
    wait_for(is_there, 20, "rauc's service", step=0.2)
    return pair.a.run(["rauc", "install", f"{folder}/update.raucb"], env=env, name="rauc-install", timeout=60), service


def rauc(pair):
    """The folder of a system with two slots, and a bundle for it."""
    for tool in ("rauc", "dbus-daemon", "mksquashfs", "openssl"):
        if not shutil.which(tool):
            raise Skip(f"{tool} is not there (tools/setup check)")
    folder = f"{pair.folder}/rauc"
    os.mkdir(folder)
    os.mkdir(f"{folder}/rauc.mnt")
    for slot in ("slot0", "slot1"):
        with open(f"{folder}/{slot}", "wb") as f:
            f.truncate(1 << 20)
    for name, text in (("system.conf", SYSTEM), ("bus.conf", BUS)):
        with open(f"{folder}/{name}", "w") as f:
            f.write(text.format(folder=folder))
    handler(pair, folder, "pre", "rauc-pre-install")
    handler(pair, folder, "post", "rauc-post-install")
    make_bundle(folder)
    pair.a.start(["dbus-daemon", "--nofork", "--nopidfile", f"--config-file={folder}/bus.conf"])
    wait_for(lambda: os.path.exists(f"{folder}/bus"), 10, "a message bus")
    return folder


def installed(folder):
    if read(f"{folder}/called").split() != ["pre", "post"]:
        raise Failure(f"the handlers were called: {read(folder + '/called')}")
    if not read(f"{folder}/slot1").startswith("the new system"):
        raise Failure("the new slot is not written")


def test_rauc(ctx):
    with fleet(ctx) as (pair, victims):
        folder = rauc(pair)
        out, service = rauc_install(pair, folder)
        if out.code:
            raise Failure(f"rauc install: exit {out.code}: {out.tail(6)} {out.stdout[-300:]}; {service.tail(8)}")
        installed(folder)
        expect_on(pair.b, pair.a, *victims)
        # The reboot into the new slot: nothing of the old system is left but the keys. Then it proves good.
        for name in os.listdir(pair.a.keys):
            if name == "evacuated":
                os.unlink(f"{pair.a.keys}/{name}")
        bad = pair.a.run([f"{HOOKS}/slot-good", "false"], env=environment(pair), timeout=60)
        if not bad.code:
            raise Failure("a slot that is not good fetches back")
        expect_on(pair.b, pair.a, *victims)
        good = pair.a.run([f"{HOOKS}/slot-good", "true"], env=environment(pair), timeout=60)
        if good.code:
            raise Failure(f"slot-good: exit {good.code}: {good.tail()}")
        expect_on(pair.a, pair.b, *victims)


def test_stays(ctx):
    """What the peer does not take stays: RAUC hears of it, and the new slot is as it would be."""
    with fleet(ctx, kinds=("nothing",)) as (pair, victims):
        folder = rauc(pair)
        # The devices fit each other, and this process has no place there.
        with open(f"{pair.b.keys}/policy", "a") as f:
            f.write("allow-exe /nosuch\n")
        out, service = rauc_install(pair, folder)
        if not out.code or "Post-install handler error" not in out.stdout + out.stderr + service.stderr:
            raise Failure(f"rauc install: exit {out.code}: {out.tail(6)} {out.stdout[-300:]}; {service.tail(8)}")
        installed(folder)
        text = read(f"{folder}/rauc.status")
        if "[slot.rootfs.1]" not in text or "status=ok" not in text.partition("[slot.rootfs.1]")[2]:
            raise Failure(f"rauc's status has {text}")
        expect_on(pair.a, pair.b, *victims)
        out = pair.a.run([f"{HOOKS}/rauc-post-install"], env=environment(pair), timeout=60)
        if out.code != 3 or "not everything that matters has left (code 3)" not in out.stderr:
            raise Failure(f"rauc-post-install: exit {out.code}: {out.stderr}")


def test_no_peer(ctx):
    """An update whose device could not be evacuated is not begun."""
    with ctx.pair() as pair:
        out = pair.a.run([f"{HOOKS}/swupdate-command", "pre"], env=environment(pair), timeout=60)
        if out.code != 5:
            raise Failure(f"pre-install without a peer: exit {out.code}: {out.tail()}")
        out = pair.a.run([f"{HOOKS}/swupdate-command", "what"], env=environment(pair))
        if out.code != 2:
            raise Failure(f"swupdate-command what: exit {out.code}")


def swupdate(pair):
    """The folder of a system that takes signed updates (Debian's takes no others), and one for it."""
    for tool in ("swupdate", "cpio", "openssl"):
        if not shutil.which(tool):
            raise Skip(f"{tool} is not there (tools/setup check)")
    folder = f"{pair.folder}/swupdate"
    os.mkdir(folder)
    firmware = b"the new system" * 5000
    with open(f"{folder}/firmware", "wb") as f:
        f.write(firmware)
    for name, text in (("swupdate.cfg", SWUPDATE), ("sw-description", SW_DESCRIPTION)):
        with open(f"{folder}/{name}", "w") as f:
            f.write(text.format(folder=folder, sha256=hashlib.sha256(firmware).hexdigest()))
    for what in ("pre", "post"):
        handler(pair, folder, what, f"swupdate-command {what}")
    must("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{folder}/key.pem",
         "-out", f"{folder}/ca.pem", "-subj", "/CN=test", "-days", "3650")
    must("openssl", "cms", "-sign", "-binary", "-nosmimecap", "-outform", "DER", "-in", "sw-description", "-out",
         "sw-description.sig", "-signer", "ca.pem", "-inkey", "key.pem", cwd=folder)
    must("cpio", "-o", "-H", "crc", "-F", "update.swu", input="sw-description\nsw-description.sig\nfirmware\n",
         cwd=folder)
    return folder


def swupdate_install(pair, folder):
    """What was called, and the command's end. SWUpdate's own: with -i it sometimes ends before it has begun, or before
    the second command (2022.12: 3 of 25 with commands that do nothing), and says 1 then. Then once more."""
    for _ in range(8):
        for name in ("called", "installed"):
            if os.path.exists(f"{folder}/{name}"):
                os.unlink(f"{folder}/{name}")
        out = pair.a.run(["swupdate", "-f", f"{folder}/swupdate.cfg", "-k", f"{folder}/ca.pem", "-H", "gateway:1.0", "-i",
                          f"{folder}/update.swu"], env=environment(pair, TMPDIR=folder), timeout=60)
        called = read(f"{folder}/called").split()
        if called == ["pre", "post"] or (called == ["pre"] and "failed" in out.stdout + out.stderr):
            break
    return called, out


def test_swupdate(ctx):
    with fleet(ctx) as (pair, victims):
        folder = swupdate(pair)
        called, out = swupdate_install(pair, folder)
        if out.code or called != ["pre", "post"] or not read(f"{folder}/installed").startswith("the new system"):
            raise Failure(f"swupdate: exit {out.code}, called {called}: {out.tail(6)} {out.stdout[-600:]}")
        expect_on(pair.b, pair.a, *victims)
        good = pair.a.run([f"{HOOKS}/slot-good", "true"], env=environment(pair), timeout=60)
        if good.code:
            raise Failure(f"slot-good: exit {good.code}: {good.tail()}")
        expect_on(pair.a, pair.b, *victims)


def test_swupdate_stays(ctx):
    """What the peer does not take stays, and SWUpdate hears of it."""
    with fleet(ctx, kinds=("nothing",)) as (pair, victims):
        folder = swupdate(pair)
        with open(f"{pair.b.keys}/policy", "a") as f:
            f.write("allow-exe /nosuch\n")
        called, out = swupdate_install(pair, folder)
        if not out.code or called != ["pre", "post"] or not os.path.exists(f"{folder}/installed"):
            raise Failure(f"swupdate: exit {out.code}, called {called}: {out.tail(6)} {out.stdout[-600:]}")
        expect_on(pair.a, pair.b, *victims)


def test_swupdate_alone(ctx):
    """No peer, no update: the first command fails, and nothing is installed."""
    with ctx.pair() as pair:
        folder = swupdate(pair)
        called, out = swupdate_install(pair, folder)
        if not out.code or called != ["pre"] or os.path.exists(f"{folder}/installed"):
            raise Failure(f"swupdate: exit {out.code}, called {called}: {out.tail(6)} {out.stdout[-600:]}")


def tests(ctx):
    return [(f"updater: {name}", lambda f=function: f(ctx)) for name, function in (
        ("RAUC installs a bundle", test_rauc), ("what stays is told to RAUC", test_stays), ("no peer, no update", test_no_peer),
        ("SWUpdate installs an update", test_swupdate), ("no peer, no update, SWUpdate", test_swupdate_alone),
        ("what stays is told to SWUpdate", test_swupdate_stays))]
