#!/bin/busybox sh
# The first process of a guest of `cargo xtask kernels`: lets sipobs watch a replay on every interface in /ways,
# and writes what it said to the second serial port. Each line there begins with a word for what it is.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
exec 3>/dev/ttyS1
# What is said to a port that the kernel does not have would keep the host waiting.
trap 'poweroff -f' EXIT

# say KIND FILE: the file's lines under the kind's name.
say() {
    while IFS= read -r line || [ -n "$line" ]; do printf '%s %s\n' "$1" "$line" >&3; done <"$2"
}

uname -r >/tmp/release
say release /tmp/release
while read -r module; do
    insmod "/modules/$module" 2>/tmp/insmod || say problem /tmp/insmod
done </modules/order

# No IPv6: its neighbour and router traffic would come at times of its own.
for which in all default; do echo 1 >/proc/sys/net/ipv6/conf/$which/disable_ipv6; done
/host/ip link set lo up

# three USER WORDS…: with CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON and those of $also, and no other.
three() {
    caps="-all,+bpf,+net_admin,+perfmon$also"
    user=$1
    shift
    exec /host/setpriv --reuid="$user" --inh-caps="$caps" --ambient-caps="$caps" --bounding-set="$caps" "$@"
}
paranoid() { echo "$1" >/proc/sys/kernel/perf_event_paranoid; }
chmod 1777 /tmp

# MEMLOCK ALSO PARANOID: which rings there are.
while read -r memlock also paranoid; do
    paranoid "$paranoid"
    line="$memlock $also $paranoid"
    [ "$also" != - ] || also=
    (
        ulimit -l "$memlock"
        three 0 /host/sipobs check -i lo
    ) >/tmp/check 2>&1
    status=$?
    rings=$(grep '^  yes .*, one for each of ' /tmp/check)
    echo "$line $status ${rings:-$(tail -n 1 /tmp/check)}" >/tmp/setting
    say setting /tmp/setting
done </settings
also=

# A CPU that comes later.
online() { echo "$1" >"/sys/devices/system/cpu/cpu$late/online"; }
late=$(cat /late 2>/dev/null)
[ -z "$late" ] || online 0

# alive NAME: whether its sipobs runs. One that has ended and was not waited for has no program any more.
alive() { [ -e "/proc/$(cat /tmp/$1.pid)/exe" ]; }

# ready NAME: once it captures. Not if it has ended.
ready() {
    tries=60
    while [ $tries -gt 0 ] && alive "$1"; do
        wget -q -O /dev/null "http://127.0.0.1:$(cat /tmp/$1.port)/readyz" 2>/dev/null && return 0
        sleep 1
        tries=$((tries - 1))
    done
    return 1
}

# NAME MODE WATCHED OTHER PARANOID USER: what is written to the one interface comes out of the other.
port=9464
while read -r name mode watched other paranoid user; do
    [ -d "/sys/class/net/$watched" ] || /host/ip link add "$watched" type veth peer name "$other"
    # The frames carry the addresses of the interfaces they were recorded on.
    for interface in "$watched" "$other"; do /host/ip link set "$interface" promisc on up; done
    paranoid "$paranoid"
    set -- /host/sipobs run -i "$watched" --mode "$mode" --format none --metrics 127.0.0.1:$port
    (
        export SIPOBS_JSONL__PATH=/tmp/$name.jsonl
        [ "$user" != all ] || exec "$@"
        ulimit -l 8192
        three "$user" "$@"
    ) >/tmp/$name.log 2>&1 &
    echo $! >/tmp/$name.pid
    echo $port >/tmp/$name.port
    port=$((port + 1))
    ready "$name"
done </ways

on=
if [ -n "$late" ]; then
    # A ring is opened then, too.
    paranoid 2
    online 1
    # Seen at the next look for changes.
    sleep 2
    on="taskset $(printf %x $((1 << late)))"
fi
while read -r name mode watched other paranoid user; do
    ready "$name" || continue
    $on /host/tcpreplay --quiet --timer nano --intf1 "$watched" --intf2 "$other" --cachefile /directions.cache \
        /capture.pcap >/tmp/$name.replay 2>&1 &
    echo $! >>/tmp/replays
done </ways
for pid in $(cat /tmp/replays 2>/dev/null); do wait "$pid"; done

# A verdict comes 35 s after its call's BYE at the latest.
tries=60
while [ $tries -gt 0 ]; do
    open=
    while read -r name rest; do
        alive "$name" || continue
        [ "$(grep -c '"kind":"transfer"' /tmp/$name.jsonl 2>/dev/null)" = "$(cat /expected)" ] || open=yes
    done </ways
    [ "$open" ] || break
    sleep 1
    tries=$((tries - 1))
done

while read -r name rest; do
    wget -q -O /tmp/$name.metrics "http://127.0.0.1:$(cat /tmp/$name.port)/metrics" 2>/dev/null
    pid=$(cat /tmp/$name.pid)
    kill "$pid" 2>/dev/null
    wait "$pid"
    echo $? >/tmp/$name.status
    for what in log replay metrics jsonl status; do
        [ -f "/tmp/$name.$what" ] && say "$name.$what" "/tmp/$name.$what"
    done
done </ways
echo whole >/tmp/whole
say end /tmp/whole
sync
sleep 1
poweroff -f
