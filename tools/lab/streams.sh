#!/bin/sh
# The standard streams: streams.sh DIR [tune|test]. About ten minutes of one core's time at most, and some GB.
# tune: seeds below 1000. test: the same from seed 1000 on; never tune on these.
set -eu
dir=${1:-build/lab}
set_=${2:-tune}
lab=${LAB:-build/weir-lab}
case $set_ in
tune) base=0 ;;
test) base=1000 ;;
*) echo "usage: streams.sh DIR [tune|test]" >&2; exit 2 ;;
esac
mkdir -p "$dir"
make_one() { # name seed options...
	name=$1 seed=$2
	shift 2
	"$lab" make --seed "$((base + seed))" --out "$dir/$name" "$@"
}
for i in 01 02 03 04 05 06 07 08 09 10 11 12; do
	case $i in # most profiles are drawn; these must be there
	02) how=gateway ;;
	04) how=five ;;
	06) how=nokeys ;;
	08) how=completion ;;
	10) how=csv ;;
	*) how= ;;
	esac
	make_one "$set_-$i" "${i#0}" ${how:+--profile $how}
done
for i in 1 2 3 4; do
	make_one "clean-$i" "10$i" --kind clean
	make_one "hard-$i" "20$i" --kind hard
	make_one "cold-$i" "30$i" --kind cold
done
