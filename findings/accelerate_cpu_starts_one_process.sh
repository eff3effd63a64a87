#!/bin/sh
# Expected: `accelerate launch --cpu --num_processes 2 script.py` runs the script in two processes on a machine without a
#   GPU ("--num_processes: The total number of processes to be launched in parallel"), or says that it does not.
# Happens: without MPI installed it starts one process, which believes that it is alone ("process 0 of 1"), with no word
#   and exit status 0: work that was to be shared out is all done by one. `--multi_gpu --num_processes 2`, on the same
#   machine without a GPU, starts two that find one another.
# Version: accelerate 1.15.0, torch 2.11.0
# Source: https://huggingface.co/docs/accelerate/package_reference/cli ("accelerate launch")
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check accelerate==1.15.0 torch==2.11.0 numpy==2.4.6
cat > "$folder/script.py" <<'PYTHON'
from accelerate import PartialState

state = PartialState(cpu=True)
print("process", state.process_index, "of", state.num_processes, flush=True)
PYTHON
cd "$folder"
export HF_HOME="$folder/settings" OMP_NUM_THREADS=1 CUDA_VISIBLE_DEVICES=
usual="--num_processes 2 --num_machines 1 --mixed_precision no --dynamo_backend no"
env/bin/accelerate env | head -2
echo "with --cpu:"
env/bin/accelerate launch --cpu $usual script.py > cpu.txt 2> said.txt
cat cpu.txt
echo "words on the standard error: $(wc -l < said.txt)"
echo "with --multi_gpu:"
env/bin/accelerate launch --multi_gpu --main_process_port 0 $usual script.py 2> /dev/null | sort > many.txt
cat many.txt
test "$(cat cpu.txt)" = "process 0 of 1"
! grep -qi "process" said.txt
test "$(cat many.txt)" = "process 0 of 2
process 1 of 2"
