#!/bin/busybox sh
# The first program of a guest: makes the host's file system the root, and goes on there with `root.sh`.
export PATH=/bin
B=/bin/busybox
$B mkdir -p /proc /sys /dev /host /top /root
$B mount -t proc proc /proc
$B mount -t sysfs sys /sys
$B mount -t devtmpfs dev /dev
while read -r module; do
  $B insmod "/modules/$module.ko" || echo "module $module does not load"
done < /modules/order

fail() { echo "guest: $1"; $B poweroff -f; }
$B mount -t virtiofs -o ro host /host || fail "the host's file system cannot be mounted"
$B mount -t tmpfs -o size=75% top /top
$B mkdir /top/upper /top/work
R=/root
$B mount -t overlay -o lowerdir=/host,upperdir=/top/upper,workdir=/top/work overlay $R || fail "no overlay"
$B mount -t proc proc $R/proc
$B mount -t sysfs sys $R/sys
$B mount -t devtmpfs dev $R/dev
$B mkdir -p $R/dev/pts $R/dev/shm
$B mount -t devpts devpts $R/dev/pts
$B mount -t tmpfs shm $R/dev/shm
$B mount -t cgroup2 cgroup2 $R/sys/fs/cgroup
$B mount -t tracefs tracefs $R/sys/kernel/tracing
$B mount -t tmpfs -o mode=1777 tmp $R/tmp
$B mount -t tmpfs run $R/run
$B ip link set lo up
$B hostname guest
# Beside the overlay, so that the programs are not written to it.
$B mkdir -p $R/payload
$B mount --bind /payload $R/payload
# All controllers, as systemd hands them down.
for controller in $($B cat $R/sys/fs/cgroup/cgroup.controllers); do
  echo "+$controller" > $R/sys/fs/cgroup/cgroup.subtree_control
done
# Not a mere chroot, in which nobody can make user namespaces.
cd $R || fail "no root"
$B mount --move . /
exec $B chroot . /payload/busybox sh /payload/root.sh
