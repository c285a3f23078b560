"""The loop: what is clipped, computed, saved and resumed; a learner of one number stands in."""

from dataclasses import replace
import json

import pytest
import torch
from torch import nn

from worldvla_ros.errors import ConfigError
from worldvla_ros.learn.objective import Objective, Term
from worldvla_ros.learn.runs import Run
from worldvla_ros.learn.trainer import LOG_EVERY, MovingAverage, Schedule, Trainer

SCHEDULE = Schedule(
    steps=10, learning_rate=0.1, warmup=0, decay_share=0.0, clip=1.0, average=0.0, save_every=4
)


class Distance(Term):
    """Distance of a number from 1000, and of a number of its own."""

    name = 'distance'

    def __init__(self, weight):
        super().__init__(weight)
        self.own = nn.Parameter(torch.zeros(1))

    def forward(self, outputs):
        return (outputs - 1000).abs().sum() + (self.own - 1000).abs().sum()

    def figures(self, outputs):
        return {'own': self.own.item()}


class Size(Term):
    name = 'size'
    auxiliary = True

    def forward(self, outputs):
        return outputs.square().sum()


class Number:
    """Learns one number."""

    name = 'number'

    def __init__(self, weight=1.0, aside=0.5):
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)
        self.objective = Objective([Distance(weight), Size(aside)])
        self.optimisers = [
            torch.optim.SGD(self.module.parameters(), 0.1),
            torch.optim.SGD(self.objective.parameters(), 0.1),
        ]
        self.parts = {'number': self.module, 'objective': self.objective}

    def losses(self, step):
        return self.objective(self.module.weight)

    def evaluate(self, weights):
        return {'number': weights['weight'].item()}


def new(folder, learner=None, **changes):
    return Trainer(learner or Number(), replace(SCHEDULE, **changes), Run(folder, 'number'))


def lines(folder):
    return [json.loads(line) for line in (folder / 'number.jsonl').read_text().splitlines()]


def test_all_that_moves_is_clipped_together(tmp_path):
    trainer = new(tmp_path, Number(weight=100.0))
    trainer.step(0)
    gradients = [parameter.grad for parameter in trainer.moved()]
    assert len(gradients) == 2
    assert torch.cat([g.flatten() for g in gradients]).norm() == pytest.approx(1.0, rel=1e-4)
    own = trainer.learner.objective.terms['distance'].own
    assert own.item() == pytest.approx(0.1 / 2**0.5, rel=1e-4)


def test_small_gradients_are_left_alone(tmp_path):
    trainer = new(tmp_path, clip=50.0)
    trainer.step(0)
    assert trainer.learner.module.weight.item() == pytest.approx(0.1)


def test_terms_are_weighed_logged_by_name_and_auxiliary_ones_are_told_apart():
    objective = Objective([Distance(2.0), Size(0.5)])
    losses = objective(torch.tensor([3.0]))
    assert losses.figures() == {
        'loss': 2 * 1997.0 + 4.5, 'loss_distance': 1997.0, 'loss_size': 9.0,
    }  # fmt: skip
    assert objective.main(torch.tensor([3.0])) == 2 * 1997.0
    assert objective.figures(torch.tensor([3.0])) == {'own': 0.0}


def test_a_term_that_weighs_nothing_is_not_there(monkeypatch):
    monkeypatch.setattr(Size, 'forward', lambda *_: pytest.fail('was computed'))
    objective = Objective([Distance(1.0), Size(0.0)])
    assert 'distance' in objective
    assert 'size' not in objective
    assert list(objective(torch.zeros(1)).values) == ['distance']


def test_losses_are_logged_and_evaluations_follow_each_save(tmp_path):
    trainer = new(tmp_path)
    trainer.train()
    found = lines(tmp_path)
    assert [line['step'] for line in found] == [0, 4, 8, 10]
    assert found[0]['loss'] == 2000.0
    assert set(found[0]) == {'seconds', 'step', 'loss', 'loss_distance', 'loss_size'}
    assert [set(line) for line in found[1:]] == [{'seconds', 'step', 'number'}] * 3
    assert LOG_EVERY == 50


def test_a_run_goes_on_where_it_was_saved(tmp_path):
    whole = new(tmp_path / 'whole', average=0.9)
    whole.train()
    first = new(tmp_path / 'parts', average=0.9)
    for step in range(4):
        first.step(step)
    first._step = 4
    first._save()
    first.step(4)  # lost
    second, taken = new(tmp_path / 'parts', average=0.9), []
    step = second.step
    second.step = lambda number: taken.append(number) or step(number)
    second.train()
    assert taken == list(range(4, 10))
    for part in ('number', 'objective'):
        wanted = whole.learner.parts[part].state_dict()
        for name, values in second.learner.parts[part].state_dict().items():
            assert torch.equal(values, wanted[name])
    assert torch.equal(second.weights['weight'], whole.weights['weight'])


def test_an_average_follows_slowly_after_its_first_steps():
    module = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(module.weight)
    average = MovingAverage(module, 0.5)
    nn.init.ones_(module.weight)
    average.update(0)
    assert average.weights['weight'].item() == pytest.approx(0.9)
    average.update(1000)
    assert average.weights['weight'].item() == pytest.approx(0.95)


def test_without_an_average_the_weights_themselves_are_evaluated(tmp_path):
    trainer = new(tmp_path)
    trainer.step(0)
    assert trainer.evaluate() == {'number': trainer.learner.module.weight.item()}


@pytest.mark.parametrize(
    'change', [lambda s: s.pop('objective'), lambda s: s['optimisers'].pop(),
               lambda s: s['number'].update(weight=torch.zeros(3, 3))],
)  # fmt: skip
def test_a_state_of_other_settings_is_refused(tmp_path, change):
    new(tmp_path).train()
    state = torch.load(tmp_path / 'number.pt')
    change(state)
    torch.save(state, tmp_path / 'number.pt')
    with pytest.raises(ConfigError, match='saved number is of a run with other settings'):
        new(tmp_path)


@pytest.mark.parametrize('content', [b'', b'no state', b'PK\x03\x04 cut off'])
def test_a_damaged_state_is_refused(tmp_path, content):
    new(tmp_path)
    (tmp_path / 'number.pt').write_bytes(content)
    with pytest.raises(
        ConfigError, match=r'number.pt cannot be read\. Start anew, without --resume'
    ):
        new(tmp_path)
