# What the first program of a guest goes on with in the new root: runs the script, switches off.
B=/payload/busybox
exec > /dev/ttyS0 2>&1
$B stty -F /dev/ttyS1 raw
echo "guest: up after $($B cut -d' ' -f1 /proc/uptime) s"
PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root \
  /bin/sh -c 'cd /tmp && . /payload/script; exit $status' < /dev/null > /dev/ttyS1 2>&1
echo "guest: status $?"
$B poweroff -f
