# SPDX-License-Identifier: MIT
"""One device whose firmware is updated: processes are written into files on its disk, the power goes, another kernel starts
with that disk, and they go on there."""
import os
import shutil
import signal
import subprocess

from devices import Failure, Skip, read
from guest import Guest, qemu_of
from matrix import KERNELS
from rows import READY_S, RESULT_S

# From slot A into slot B, both with ext4 built in, and what is carried. Its clocks begin anew, its pids elsewhere.
UPDATES = (("amd64 6.1", "amd64 6.12", "max"),)
PROGRAMS = (("memory.musl-static", ""), ("timers.musl-static", ""), ("threads.glibc-static", ""))
DISK_BYTES = 96 << 20
ON_DISK = "mkdir -p /data && mount -t ext4 /dev/vda /data"


class Slot:
    """A start of the device, with its disk."""

    def __init__(self, folder, name, kernel, cpu, initramfs, disk, pids, own_netns):
        drive = ["-drive", f"file={disk},format=raw,if=none,id=d", "-device", "virtio-blk-pci,drive=d"]
        self.guest = Guest(name, kernel, cpu, initramfs, "10.77.0.1", pids, (f"{folder}/{name}.cable", True), folder,
                           own_netns, drive)
        try:
            self.guest.booted()
            self.guest.must(ON_DISK)
        except BaseException:
            self.guest.close()
            raise

    def cut_power(self):
        watch = self.guest.popen.pid  # which ends with what it watches
        os.kill(int(read(f"/proc/{watch}/task/{watch}/children").split()[0]), signal.SIGKILL)
        self.guest.popen.wait()
        self.guest.popen.stdin.close()


def make_disk(path):
    if not shutil.which("mke2fs"):
        raise Skip("mke2fs is not there (Debian: e2fsprogs)")
    with open(path, "wb") as f:
        f.truncate(DISK_BYTES)
    # Its checksums need a cipher module that nothing in a guest would load.
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^metadata_csum", path], check=True, capture_output=True)


def put_away(guest, nr, program, arg):
    """Started, written to the disk, and its folder with it. Its pid."""
    code, text = guest.run(f"start {READY_S} {program} {arg}", READY_S + 20)
    if code:
        raise Failure(f"{program}: {text}")
    pid = int(text.split()[-1])
    # What it holds open stays as it is until it is told to go on. The image is not synced by us.
    guest.must(f"cp -a /d /data/{nr}.d && sync")
    guest.must(f"baton dump --keys /data/keys {pid} /data/{nr}.image && gone {pid} && no_move", 240)
    return pid


def take_up(guest, nr, program, pid):
    guest.must(f"rm -rf /d && cp -a /data/{nr}.d /d")
    guest.must(f"baton restore --keys /data/keys /data/{nr}.image", 240)
    code, result = guest.run(f"finish {RESULT_S} {pid}", RESULT_S + 20)
    if code:
        raise Failure(f"{program}: {result}")


def update(image_of, root, before, after, cpu):
    qemu_of(KERNELS[before].arch)
    (old, old_files), (new, new_files) = image_of(before), image_of(after)
    folder = f"{root}/update"
    os.makedirs(folder)
    disk = f"{folder}/disk"
    make_disk(disk)
    slot = Slot(folder, "slot-a", old, cpu, old_files, disk, 20000, False)
    try:
        slot.guest.must("baton keygen --keys /data/keys --name device")
        pids = [put_away(slot.guest, nr, *program) for nr, program in enumerate(PROGRAMS)]
        up = slot.guest.must("cat /proc/uptime").split()[0]
        slot.cut_power()
        slot = Slot(folder, "slot-b", new, cpu, new_files, disk, 1000, True)
        up += " s, then " + slot.guest.must("cat /proc/uptime").split()[0] + " s up"
        for nr, ((program, _), pid) in enumerate(zip(PROGRAMS, pids)):
            take_up(slot.guest, nr, program, pid)
        slot.guest.must("no_baton && no_move")
        return f"{len(pids)} processes, {up}"
    finally:
        if slot.guest.popen.poll() is None:
            slot.guest.close()


def kernels():
    return {name for one in UPDATES for name in one[:2]}


def tests(image_of, root):
    return [(f"{before} to {after}: an update of one device, by the power switch",
             lambda u=(before, after, cpu): update(image_of, root, *u)) for before, after, cpu in UPDATES]
