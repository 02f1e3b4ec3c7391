#!/bin/bash
# The first process of a simulated host; started by `enter`, never by hand.
# It must stay alive as process 1 (not exec), because it reaps what daemons leave behind:
# libvirt waits 40 s for a QEMU that is a zombie.
set -euo pipefail
export SIMULATED_HOST=${SIMULATED_HOST:-host1}

mount -t proc proc /proc
umount --recursive --lazy /sys # with it the cgroup mounts, which libvirt would believe in
mount -t sysfs sysfs /sys # else OVS and libvirt see the outer host's network devices
hostname "$SIMULATED_HOST"

private() { # an empty directory of this host alone
    mkdir -p "$1"
    mount -t tmpfs -o "mode=${2:-755}" tmpfs "$1"
}
copied() { # this host's own copy of a directory of configuration
    mkdir -p "$1"
    local copy="/run/simulated$1"
    mkdir -p "$(dirname "$copy")"
    cp -a "$1" "$copy"
    mount --bind "$copy" "$1"
}

# A /run of its own, so no socket, pidfile or namespace of the outer host is seen; PostgreSQL alone stays.
mount -t tmpfs tmpfs /media
mkdir -p /run/postgresql /media/postgresql
mount --bind /run/postgresql /media/postgresql
private /run
mkdir -p /run/postgresql /run/lock /run/netns
mount --move /media/postgresql /run/postgresql
umount /media

# Our own mounts must not stand on the outer host's directories: whoever removes one there unmounts it here.
for directory in /etc /var/lib /var/cache /var/log; do
    mkdir -p "/run/simulated$directory.layer/upper" "/run/simulated$directory.layer/work"
    layers="lowerdir=$directory,upperdir=/run/simulated$directory.layer/upper,workdir=/run/simulated$directory.layer/work"
    mount -t overlay -o "$layers" overlay "$directory"
done

for directory in /var/lib/stackling /var/lib/openvswitch /var/lib/ovn /var/lib/libvirt /var/cache/libvirt \
    /var/log/openvswitch /var/log/ovn /var/log/libvirt /var/log/stackling; do
    private "$directory"
done
for directory in /etc/openvswitch /etc/ovn /etc/libvirt /etc/stackling; do copied "$directory"; done
rm -f /etc/openvswitch/system-id.conf # conf.db is Debian's link into /var/lib/openvswitch, which is empty
rm -rf /etc/libvirt/qemu /etc/stackling/*

# Names must resolve, or libvirt waits for DNS; the outer host's own lines stay.
{ echo "127.0.0.1 localhost"; echo "127.0.1.1 $SIMULATED_HOST"; } >/run/simulated/hosts
mount --bind /run/simulated/hosts /etc/hosts

ip link set lo up
status=0
[ $# -gt 0 ] || set -- "${SHELL:-/bin/bash}"
"$@" || status=$?
exit "$status"
