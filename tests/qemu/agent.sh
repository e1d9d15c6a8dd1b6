# Process 1 of the guest. It reads numbers of scripts from the second serial port and runs the scripts:
# /share/N.sh is a script, its output goes to /share/N.out, and the agent answers "done N STATUS" at its end.
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp PYTHONPYCACHEPREFIX=/tmp/pycache PYTHONPATH=/project/.package:/project
stty -F /dev/ttyS1 raw -echo
mkdir -p /dev/pts /dev/shm /dev/hugepages /var/log /var/tmp
ln -s /run /var/run
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
ip link set lo up
exec 3<>/dev/ttyS1
echo ready >&3
while read -r word number limit <&3; do
    case $word in
    run)
        timeout -k 2 "$limit" bash -o pipefail "/share/$number.sh" </dev/null >"/share/$number.out" 2>&1 3>&-
        echo "done $number $?" >&3
        ;;
    stop)
        busybox poweroff -f
        ;;
    esac
done
