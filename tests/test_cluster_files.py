"""The cluster files: of the form that Ray, Kubernetes and bash want; and what they send is the code, nothing else."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CLUSTER = ROOT / "examples/cluster"
LAUNCHED = ("local", "aws", "gcp")


@pytest.mark.parametrize("name", LAUNCHED)
def test_ray_accepts_a_cluster_file(name):
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
    prepared = prepare_config(config)
    validate_config(prepared)
    assert prepared["provider"]["type"] == name
    workers = [kind for kind in prepared["available_node_types"].values() if kind["max_workers"]]
    assert all(kind["min_workers"] == kind["max_workers"] for kind in workers)  # a sweep counts its places once


@pytest.mark.parametrize("name", LAUNCHED)
def test_every_node_gets_the_package_and_the_token(name):
    config = yaml.safe_load((CLUSTER / f"{name}.yaml").read_text())
    assert config["file_mounts"] == {"~/sparse-search": ".", "~/.ray/auth_token": "~/.ray/auth_token"}
    assert any("pip install" in command and "sparse-search[cluster]" in command for command in config["setup_commands"])
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])
    assert any("$RAY_HEAD_IP" in command for command in config["worker_start_ray_commands"])
    for command in config["setup_commands"] + config["head_start_ray_commands"] + config["worker_start_ray_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)


@pytest.mark.skipif(shutil.which("rsync") is None, reason="needs rsync")
def test_what_is_sent_is_the_code(tmp_path):
    config = yaml.safe_load((CLUSTER / "local.yaml").read_text())
    there = tmp_path / "there"
    source = tmp_path / "here"
    for name in ("results/sweeps/a.json", "data/x.npz", ".venv/bin/python", ".git/HEAD", "chest.npz", "sw.log",
                 "trainables/data/tasks.py", "sparse_search/__pycache__/a.pyc", "pyproject.toml"):  # fmt: skip
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).touch()
    shutil.copy(ROOT / ".rayignore", source)
    excluded = [f"--exclude={pattern}" for pattern in config["rsync_exclude"]]
    filtered = [f"--filter=dir-merge,- {name}" for name in config["rsync_filter"]]  # as Ray calls it
    subprocess.run(["rsync", "-a", *excluded, *filtered, f"{source}/", there], check=True)
    assert {str(path.relative_to(there)) for path in there.rglob("*") if path.is_file()} == {
        ".rayignore", "trainables/data/tasks.py", "pyproject.toml"
    }  # fmt: skip


def test_a_rayjob_mounts_what_its_command_names():
    sweep_map, job = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        (container,) = pod["containers"]
        mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
        assert {volume["name"] for volume in pod["volumes"]} == set(mounts)
        for part in job["spec"]["entrypoint"].split():
            assert not part.startswith("/") or part.startswith(tuple(mounts.values()))
    assert "GPU" not in str(cluster["headGroupSpec"])
    (worker,) = cluster["workerGroupSpecs"]
    assert worker["minReplicas"] == worker["replicas"]
    assert sweep_map["metadata"]["name"] == "sparse-search-sweep"


def test_the_sweep_of_a_rayjob_is_a_sweep():
    from sparse_search.search.sweep_file import parse_sweep

    sweep_map, _ = yaml.safe_load_all((CLUSTER / "kuberay.yaml").read_text())
    sweep = parse_sweep(yaml.safe_load(sweep_map["data"]["sweep.yaml"]))
    assert sweep.gpus_per_trial == 0.5


def test_the_batch_file_is_bash():
    subprocess.run(["bash", "-n", CLUSTER / "slurm.sh"], check=True)
    directives = [line for line in (CLUSTER / "slurm.sh").read_text().splitlines() if line.startswith("#SBATCH")]
    assert any(line.startswith("#SBATCH --nodes=") for line in directives)


def test_the_sent_script_calls_the_installed_package_only():
    text = (CLUSTER / "run_sweep.py").read_text()
    compile(text, "run_sweep.py", "exec")
    imported = {line.split()[1] for line in text.splitlines() if line.startswith(("import ", "from "))}
    assert imported == {"os", "sys", "sparse_search.cli.app"}
