#!/bin/sh
# SPDX-License-Identifier: MIT
# openrc.sh TREE WORK: a device under OpenRC goes up and down. TREE has Debian's openrc, WORK/init.d the services; all of it
# is seen in here only, above the files of the machine. Needs a mount namespace of its own.
set -e
tree=$1 work=$2
mount -t tmpfs openrc "$work/root"
cd "$work/root"
mkdir over under new root
cp -a "$tree/." over/
mount -t overlay openrc -o lowerdir=over:/,upperdir=new,workdir=under root
mount --rbind /proc root/proc
mount --rbind /dev root/dev
mount --bind /tmp root/tmp
mount -t tmpfs run root/run
rm -r root/etc/init.d
cp -a "$work/init.d" root/etc/init.d
: >root/etc/insserv.conf
mkdir -p root/etc/runlevels/sysinit root/etc/runlevels/boot root/etc/runlevels/default root/etc/runlevels/shutdown
exec chroot root sh -ec '
PATH=/sbin:/usr/sbin:/bin:/usr/bin
rc-update add cable boot
# Not in the order in which they start.
rc-update add baton-evacuate default
rc-update add work default
openrc sysinit
openrc boot
openrc default
echo "== goes down"
openrc shutdown'
