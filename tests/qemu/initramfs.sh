#!/bin/busybox sh
# First program of every guest: load what the root file system needs, mount it over 9p, and go on there.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
for module in $(cat /modules.order); do
    insmod "/modules/$module" || echo "lab: $module could not be loaded"
done
options=trans=virtio,version=9p2000.L,msize=262144
mount -t 9p -o "$options,ro,cache=loose" root /root || exec sh
mount -t proc proc /root/proc
mount -t sysfs sys /root/sys
mount -t devtmpfs dev /root/dev
mount -t tmpfs tmp /root/tmp
mount -t tmpfs run /root/run
mount -t tmpfs var /root/var
mount -t 9p -o "$options,ro,cache=loose" modules /root/usr/lib/modules
mount -t 9p -o "$options,ro,cache=loose" project /root/project
mount -t 9p -o "$options,rw,cache=none" share /root/share
umount /proc
exec switch_root /root /bin/sh /project/tests/qemu/agent.sh </dev/console >/dev/console 2>&1
