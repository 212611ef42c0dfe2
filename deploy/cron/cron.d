# Written by miyabi-healing install
5-59/15 * * * * root /opt/miyabi-healing/run_healing.sh --quiet 2>&1 | logger -t miyabi-healing
