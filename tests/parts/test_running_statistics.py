import torch
from torch import nn

from smalldata_vit.parts.running_statistics import RunningStatistics


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.Linear(3, 2))


def test_running_statistics_take_the_mean_over_a_step_s_passes() -> None:
    module, x = net(), torch.randn(12, 4)
    statistics = RunningStatistics(module)
    statistics.start_step()
    for part in (x[:8], x[8:]):
        module(part)
        statistics.end_pass(len(part) / len(x))
    statistics.end_step()
    expected = torch.zeros(3)
    for part in (x[:8], x[8:]):
        hidden = module[0](part)
        expected += (len(part) / len(x)) * (0.9 * torch.zeros(3) + 0.1 * hidden.mean(0))
    torch.testing.assert_close(module[1].running_mean, expected)


def test_one_pass_leaves_what_batch_normalisation_does_by_itself() -> None:
    ours, theirs, x = net(), net(), torch.randn(16, 4)
    statistics = RunningStatistics(ours)
    statistics.start_step()
    ours(x)
    statistics.end_pass(1.0)
    statistics.end_step()
    theirs(x)
    torch.testing.assert_close(ours[1].running_var, theirs[1].running_var)


def test_a_pass_of_weight_zero_leaves_no_trace() -> None:
    module, x = net(), torch.randn(16, 4)
    statistics = RunningStatistics(module)
    statistics.start_step()
    module(x)
    statistics.end_pass(1.0)
    module(100 * x)
    statistics.end_pass(0.0)
    statistics.end_step()
    alone = net()
    alone(x)
    torch.testing.assert_close(module[1].running_mean, alone[1].running_mean)
