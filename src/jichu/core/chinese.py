"""Chinese, by what stands in English in the sources: SENTENCES are what `words` is given, NAMES what `named` is, KEPT what
stands in files in English and is `retold`."""

from . import chinese_board, chinese_drift, chinese_play

SENTENCES = {
    **chinese_board.SENTENCES,
    **chinese_drift.SENTENCES,
    **chinese_play.SENTENCES,
    "candidate": "候选",
    "size, MiB": "大小（MiB）",
    "share of the size": "大小占比",
    "ms for one row": "单条耗时（毫秒）",
    "times as fast, one row": "单条速度倍数",
    "times as fast, {rows} rows": "{rows} 条批次的速度倍数",
    "times as fast": "速度倍数",
    "points lost": "损失（百分点）",
    "{metric} on {rows:,} rows ({which}). Timed by ONNX Runtime in {rounds} rounds, in turns with float32; threads: {threads}.": "{rows:,} 条样本（{which}）上的{metric}。由 ONNX Runtime 与 float32 轮流计时，共 {rounds} 轮；线程数：{threads}。",
    "the validation rows": "验证集",
    "every second test row": "测试集中每隔一条",
    "{name} could not be: {why}": "无法得到 {name}：{why}",
    "{name} is {ratio}× as fast as float32 here": "在本机上 {name} 的速度是 float32 的 {ratio} 倍",
    "{name} is no faster than float32 here": "在本机上 {name} 并不比 float32 快",
    "{goal} is met by {name}": "{name} 达到了目标 {goal}",
    "{goal} is not met; {name} comes nearest": "未达到目标 {goal}；最接近的是 {name}",
    "on {rows:,} rows that nothing was chosen by {metric} is {after}, {before} in float32: {lost} {ends} points lost": "在未用于挑选的 {rows:,} 条样本上，{metric}为 {after}，float32 为 {before}：损失 {lost} {ends} 个百分点",
    "What is given for what": "取舍",
    "Candidates": "候选",
    "{run} made smaller": "压缩 {run}",
    "{stage} was trained with differential privacy of every training row: epsilon {epsilon}, delta {delta}.": (
        "{stage} 的训练对每条训练样本满足差分隐私：ε = {epsilon}，δ = {delta}。"
    ),
    "{count} such trainings saw the same rows: whoever sees what came of all of them learns of a row what epsilon {epsilon}, delta {delta} allow at most.": (
        "{count} 次这样的训练使用了相同的样本：见到全部结果的人，对任一样本所能得知的至多为 ε = {epsilon}、δ = {delta} 所允许的。"
    ),
    "{rows:,} held-out rows, each changed by at most {epsilon} {unit} in {norm}. The strongest: {attack}; a stronger attacker may leave less.": (
        "{rows:,} 条留出样本，每条按 {norm} 范数改动不超过{unit}的 {epsilon}。最强攻击：{attack}；更强的攻击者可能使准确率更低。"
    ),
    "Are the rules kept?": "规则是否得到遵守？",
    "Does it tell planted secrets?": "是否会泄露植入的秘密？",
    "Made-up secrets were planted among the training texts. Exposure is in bits, by a skew-normal distribution of {samples:,} of {space:,} that there could be: {chance} is what one has that was never planted, {bits} says that the model finds it the likeliest. Intervals are over canaries.": "训练文本中植入了虚构的秘密（金丝雀）。暴露度以比特计，由全部 {space:,} 个可能取值中的 {samples:,} 个拟合偏正态分布得出：从未植入者约为 {chance}，{bits} 表示模型认为它最有可能。置信区间针对各金丝雀。",
    "Made-up secrets were planted among the training texts. Exposure is in bits, ranked among all {space:,} that there could be: {chance} is what one has that was never planted, {bits} says that the model finds it the likeliest. Intervals are over canaries.": "训练文本中植入了虚构的秘密（金丝雀）。暴露度以比特计，由其在全部 {space:,} 个可能取值中的名次得出：从未植入者约为 {chance}，{bits} 表示模型认为它最有可能。置信区间针对各金丝雀。",
    "No model could be trained on fewer rows: {why}.": "无法用更少的样本训练模型：{why}。",
    "No model here has a network, whose features could be looked at.": "此处没有带神经网络的模型，因而没有可供考察的特征。",
    "No model here writes texts, one token after the other.": "此处没有逐词元生成文本的模型。",
    "No shadow models could be trained: {why}.": "无法训练影子模型：{why}。",
    "Of {stage} {rows:,} rows are such that some shadow models were trained on them, and others were not.": "对 {stage} 而言，有 {rows:,} 行样本被部分影子模型用于训练、而另一部分未用。",
    "Shares of {rows:,} held-out rows, with Wilson's intervals. What stands in the rows, their truth included, may break a rule; so may what a model says of them alone. Every other figure of this report is of the model alone.": "均为 {rows:,} 条留出样本中的占比，附 Wilson 置信区间。样本本身（包括其真实标签）可能违反规则，模型单独给出的回答也可能违反。本报告其余数字均为模型单独的表现。",
    "Trained {repeats} times at each size, on nested samples, and measured on {rows:,} held-out rows; the intervals are over both. A curve is fitted to each resample of them.": "每种规模训练 {repeats} 次，样本逐级嵌套，并在 {rows:,} 条留出样本上评估；置信区间同时涵盖两者。对每次重采样各拟合一条曲线。",
    "Twice the rows, {rows:,}, would bring {stage} from {now} to {then}, if it goes on falling as {falls}.": "若误差继续按 {falls} 下降，样本增至两倍（{rows:,} 行）可使 {stage} 由 {now} 降至 {then}。",
    "What twice the rows would give {stage} cannot be told: {why}.": "无法判断两倍样本会给 {stage} 带来什么：{why}。",
    "Would more rows help?": "更多样本是否有用？",
    "alone": "模型单独",
    "answers changed": "被更改的回答",
    "by chance": "随机水平",
    "by its least likely tokens": "依据其最不可能的词元",
    "canaries": "金丝雀数",
    "exposure": "暴露度",
    "exposure, bits": "暴露度（比特）",
    "metric": "指标",
    "never": "从未",
    "planted so often": "植入次数",
    "rows that break it": "违反的样本",
    "rule": "规则",
    "the likeliest of all": "全部之中最有可能",
    "times planted": "植入次数",
    "told, likeliest token": "贪心解码说出",
    "told, {beams} beams": "{beams} 束搜索说出",
    "with the rules": "加上规则",
    "{error} after training on": "训练后的{error}，样本数为",
    "{rows:,} rows": "{rows:,} 行",
    "{stage} alone": "{stage} 单独",
    "{stage} has no gradients, and squares are for linf: it was not attacked.": "{stage} 没有梯度，而方块攻击仅适用于 linf：未对其进行攻击。",
    "{stage} writes secrets to the letter that were planted {often} times among its training texts.": "{stage} 会一字不差地写出在其训练文本中植入了 {often} 次的秘密。",
    "{stage}, ruled": "{stage} 加规则",
    " and ": " 且 ",
    ".": "。",
    ". What ran is in recipe.yaml.": "。所运行的配方见 recipe.yaml。",
    "95% interval": "95% 置信区间",
    "A bar is the class's share of its split.": "条形的长度为该类别在所属数据划分中的占比。",
    "A gate fails: {gate}": "有门槛未通过：{gate}",
    "A map of the features of {stage} (t-SNE): what lies together is alike to the model; frames are coloured by class.": (
        "{stage} 的特征分布图（t-SNE）：靠得近的样本在模型看来相似；边框颜色表示类别。"
    ),
    "A model": "一个模型",
    "A picture is a spectrogram: time from left to right, high pitches above, loud ones bright.": (
        "图片为频谱图：时间自左向右，高音在上，越响越亮。"
    ),
    "A small tree says the same as the model in {share} of the rows, on {rows:,} held-out ones. Read as rules:": (
        "一棵小决策树在 {rows:,} 条留出样本上与模型结论一致的比例为 {share}。写成规则即："
    ),
    "A small tree tells {share} of the variance of what the model says, on {rows:,} held-out rows. Read as rules:": (
        "一棵小决策树在 {rows:,} 条留出样本上能解释模型输出方差的 {share}。写成规则即："
    ),
    "A stronger attacker may find more.": "更强的攻击者可能识别出更多成员。",
    "A stronger attacker may find more; shadows: 16 measures one.": (
        "更强的攻击者可能识别出更多成员；设置 shadows: 16 即可评估这样的攻击。"
    ),
    "All that was found in the data": "数据检查的全部结果",
    "As far as it can be told by form and check digits.": "仅依据格式和校验位判断。",
    "Between {one} and {two} this run shows no difference.": "本次运行未显示 {one} 与 {two} 之间有差异。",
    "By how much the {what} of {stage} rises where a column is shuffled among {shuffled:,} held-out rows, five times; and what"
    " the column is worth to an answer on average, whatever the sign, by {method} ({scale}) on {rows:,} of them.": (
        "重要性：在 {shuffled:,} 条留出样本中将某列随机打乱（重复五次）后，{stage} 的{what}上升多少；平均贡献：用{method}（{scale}）"
        "在其中 {rows:,} 条上计算的该列对预测结果贡献的平均绝对值。"
    ),
    "Chosen on {validation:,} validation rows, measured on {rows:,} held-out ones, first draw: of the policies under which the"
    " groups are equal there, the one with the most decisions right. A group of fewer than {least} rows that are due it, or are"
    " not, keeps 0.5. Where a group has a second threshold, or a coin that looks at nothing, chance decides between them.": (
        "在 {validation:,} 条验证样本上选定，在 {rows:,} 条留出样本上测量（第一次抽样）：在使各群体于验证集上平等的所有策略中，选取"
        "判断正确最多的一个。应得或不应得该结果的样本不足 {least} 条的群体，阈值保持 0.5。若某群体有第二个阈值，或有不看任何信息的"
        "抛硬币环节，则由随机数在其间决定。"
    ),
    "Classes with few held-out rows: {classes} and {more} more.": "留出样本过少的类别：{classes}，以及另外 {more} 个。",
    "Classes with few held-out rows: {classes}.": "留出样本过少的类别：{classes}。",
    "Columns": "列",
    "Contact": "联系方式",
    "Contents": "目录",
    "Cost of training": "训练开销",
    "Counts of {rows:,} held-out rows, mean over {draws} draws.": "{rows:,} 条留出样本的计数，为 {draws} 次抽样的平均。",
    "Counts of {rows:,} held-out rows.": "{rows:,} 条留出样本的计数。",
    "Data": "数据",
    "Does it give its training rows away?": "隐私：成员推断",
    "Duplicates": "重复记录",
    "Each of {rows:,} held-out rows asks for rows of its class among all others, by the cosine of the features; pairs are of one"
    " class or of two.": "{rows:,} 条留出样本逐一按特征的余弦相似度在其余样本中检索同类样本；样本对分为同类与异类。",
    "Encodings": "字符编码",
    "Energy by the processor's own counters, of all that the machine did meanwhile: {kwh:.3g} kWh for a million rows.": (
        "能耗由处理器自带的计数器测得，包含机器同时进行的其他工作：每百万条样本 {kwh:.3g} 千瓦时。"
    ),
    "Energy is estimated, {kwh:.3g} kWh for a million rows in the fastest batches: {watts:g} watts (watts_per_core) times"
    " {threads} for the threads at work; memory, cooling and idling are not in it.": (
        "能耗为估算值，以最快的批大小计每百万条样本 {kwh:.3g} 千瓦时：每线程 {watts:g} 瓦（watts_per_core），共 {threads} 个工作线程；"
        "不含内存、散热与空转。"
    ),
    "Energy: nothing on this machine tells it.": "能耗：本机无从得知。",
    "Explanations of {stage} hardly depend on what it learnt: shuffled weights give nearly the same, rank correlation {alike} on"
    " {rows:,} rows.": "对 {stage} 的解释几乎不取决于它学到的内容：打乱权重后结果相近，在 {rows:,} 条样本上秩相关为 {alike}。",
    "Fair to whom?": "公平性",
    "Fingerprint of what was read: `{fingerprint}`.": "所读数据的指纹：`{fingerprint}`。",
    "Fitted on {validation:,} validation rows, measured on {rows:,} held-out ones, first draw.": (
        "在 {validation:,} 条验证样本上拟合，在 {rows:,} 条留出样本上测量，取第一次抽样。"
    ),
    "Gain of {one} over {two} in {metric}, paired by row and draw: {gain} on {rows:,} rows.": (
        "{one} 相对 {two} 的增益（{metric}，按样本与抽样配对）：{gain}，{rows:,} 条样本。"
    ),
    "Gain of {one} over {two} in {metric}, paired by row and draw: {gain} on {rows:,} rows; the interval holds zero, so this run"
    " does not show a difference.": (
        "{one} 相对 {two} 的增益（{metric}，按样本与抽样配对）：{gain}，{rows:,} 条样本；区间包含零，因此本次运行未显示差异。"
    ),
    "Gaps are between the two groups that are furthest apart, and so are their intervals, which begin at 0 where these two might"
    " as well be the other way round. Rates of fewer than {least} rows take no part. Of many small groups two are always some way"
    " apart.": (
        "差距及其置信区间取自相差最大的两个群体；若两者的高低也可能颠倒，则区间从 0 开始。不足 {least} 条样本的比率不参与比较。"
        "小群体一多，总有两个会相差一些。"
    ),
    "Gates": "门槛",
    "Groups by {column} fare differently: {gap} {value} on {rows:,} rows.": (
        "按 {column} 划分的群体待遇不同：{gap} {value}，{rows:,} 条样本。"
    ),
    "Held-out rows come from the same source as the training rows; on others it may do worse.": (
        "留出样本与训练样本同源；换成其他来源的数据，效果可能更差。"
    ),
    "How good": "效果",
    "How sure, and rightly so?": "校准",
    "How well a small tree that sees nothing else tells {column}, on rows it was not fitted to.": (
        "只看该列的一棵小决策树，在未参与拟合的样本上预测 {column} 的效果。"
    ),
    "Inputs changed by at most {epsilon} {unit} leave {stage} an accuracy of {left} of {clean}, on {rows:,} rows.": (
        "对抗攻击下输入改动不超过{unit}的 {epsilon} 时，{stage} 的准确率由 {clean} 降至 {left}，{rows:,} 条样本。"
    ),
    "Intended use": "预期用途",
    "Learning": "训练过程",
    "Licence": "许可证",
    "Like finds like": "特征：同类相聚",
    "Limits": "局限",
    "MFLOPs of a row": "每条样本 MFLOPs",
    "MiB of weights": "权重（MiB）",
    "Most in doubt": "最拿不准的样本",
    "Nearly the same": "近似重复",
    "Nearly the same, the first {count}": "近似重复，前 {count} 对",
    "Nearly the same: {count:,}": "近似重复：{count:,}",
    "No slice of at least {least} of the {rows:,} held-out rows was found that is worse than the rest.": (
        "在 {rows:,} 条留出样本中，未发现不少于 {least} 条且表现差于其余样本的切片。"
    ),
    "Not asked in this audit: {parts}.": "本次审计未涉及：{parts}。",
    "Not stated. (`card: {key}` in the recipe says it.)": "未说明。（在配方中写 `card: {key}` 即可说明。）",
    "Not used": "未使用的记录",
    "Nothing was measured on held-out rows.": "未在留出样本上做任何测量。",
    "Numbers and times are cut into up to {bins} stretches of as many held-out rows each.": (
        "数值与时间按留出样本数等分为至多 {bins} 段。"
    ),
    "Of classes, square brackets hold Wilson's 95% intervals.": "各类别指标方括号内为 Wilson 95% 置信区间。",
    "Of {column}:": "关于 {column}：",
    "On {device}, threads: {threads}, after two runs that do not count; other work on the machine is in it. FLOPs are those of"
    " products; what classical heads do besides is not counted. The peak is of what the model computes, beside its weights.": (
        "在 {device} 上，线程数 {threads}，先预热两次不计；机器同时进行的其他工作也计入其中。FLOPs 只计乘法运算，经典模型头的其他计算"
        "不计。内存峰值指模型计算所占，不含权重。"
    ),
    "Only {rows} held-out rows: the intervals are wide, and a rare fault may not be among them.": (
        "留出样本仅 {rows} 条：置信区间较宽，罕见的错误可能未被覆盖。"
    ),
    "Passages seen in training": "训练中出现过的片段",
    "Personal data": "个人信息",
    "Predicted and true: {stage}": "预测值与真实值：{stage}",
    "Records the same as an earlier one in every column that is used: {count:,}": "所用各列均与先前某条相同的记录：{count:,}",
    "Records the same as an earlier one: {count:,}": "与先前某条相同的记录：{count:,}",
    "Rows of each class": "各类别的样本数",
    "Rows that stand for many, and rows that those do not speak for, by the features of {stage} among {among:,} held-out rows.": (
        "按 {stage} 的特征，从 {among:,} 条留出样本中选出的典型样本，以及典型样本代表不了的例外样本。"
    ),
    "R² of a linear probe": "线性探针的 R²",
    "Seed {seed}.": "随机种子 {seed}。",
    "Slices of at least {least} of the {rows:,} held-out rows are looked for in {columns} columns, and in two at once, on one"
    " half of these rows; what is told of them was measured on the other half, so that the search does not flatter itself. q is"
    " how many of the slices up to there are expected to be so by chance (Fisher's or Welch's test, corrected after Benjamini and Hochberg).": (
        "在 {rows:,} 条留出样本的一半上，于 {columns} 列及其两两组合中寻找不少于 {least} 条样本的切片；所列数值在另一半上测得，以免"
        "因搜索而失真。q 为截至该行的切片中预计纯属偶然的比例（Fisher 精确检验或 Welch 检验，经 Benjamini–Hochberg 校正）。"
    ),
    "Some forecasts": "预测示例",
    "Some held-out rows, and beside each what speaks for the answer of {stage} (orange) or against it (blue), by {method}.": (
        "若干留出样本，右侧为用{method}得到的支持（橙）或反对（蓝）{stage} 预测结果的部分。"
    ),
    "Some of them": "数据示例",
    "Square brackets hold 95% bootstrap intervals; held-out rows and draws of the labels are both resampled.": (
        "方括号内为 95% 自助法（bootstrap）置信区间；对留出样本与标注抽样同时重采样。"
    ),
    "The beginnings of held-out texts, and in bold how the model goes on, drawn at a temperature of 0.8.": (
        "留出文本的开头，粗体为模型以温度 0.8 采样的续写。"
    ),
    "The favourable decision is {favourable} (of two classes the second, where `favourable` names none). A group's selection rate"
    " is how often it gets it, the true positive rate how often those who should do, the false positive rate how often the others"
    " do; confidence above rate is how much surer of it the model is than it comes true.": (
        "有利结果为 {favourable}（未用 `favourable` 指定时取两个类别中的第二个）。入选率为群体得到该结果的比例，真阳性率为应得者得到的"
        "比例，假阳性率为不应得者得到的比例；置信度超出量为模型对该结果的置信度比其实际发生率高出多少。"
    ),
    "The files": "文件",
    "The gradients of {stage} may be hidden, so that it looks stronger than it is: {signs}.": (
        "{stage} 的梯度可能被掩盖，使其看起来比实际更稳健：{signs}。"
    ),
    "The held-out rows that {stage} doubts most, by how near the second class comes to the first.": (
        "{stage} 最拿不准的留出样本，按第二类别与第一类别概率的接近程度排序。"
    ),
    "The held-out rows that {stage} doubts most, by the entropy of its probabilities.": (
        "{stage} 最拿不准的留出样本，按预测概率的熵排序。"
    ),
    "The same": "完全重复",
    "The same, the first {count}": "完全重复，前 {count} 对",
    "There are no columns to look for slices in.": "没有可用于寻找切片的列。",
    "There are no corruptions for inputs of this kind, or none of those that were named.": (
        "此类输入没有对应的扰动，或没有所指定的扰动。"
    ),
    "There are {members:,} rows that the model was trained on here and {strangers:,} held out; {few} of each are wanted.": (
        "此处有 {members:,} 条训练样本和 {strangers:,} 条留出样本；两者各需至少 {few} 条。"
    ),
    "There are {validation:,} labelled validation rows, and {few} are wanted to mend this, and to promise anything:"
    " data.split.validation. Measured on {rows:,} held-out rows.": (
        "有标注的验证样本为 {validation:,} 条，至少需要 {few} 条才能进行校准并给出保证（data.split.validation）。以上在 {rows:,} 条"
        "留出样本上测得。"
    ),
    "There are {validation:,} labelled validation rows, and {least} are wanted to choose thresholds by group:"
    " data.split.validation.": (
        "有标注的验证样本为 {validation:,} 条，至少需要 {least} 条才能按群体选择阈值（data.split.validation）。"
    ),
    "There were no validation rows: training was not stopped by any, and probabilities are not calibrated.": (
        "没有验证样本：训练未据此提前停止，概率也未经校准。"
    ),
    "These inputs cannot be changed a little: there are no images, sounds or numbers.": (
        "此类输入无法做微小改动：没有图像、声音或数值。"
    ),
    "Too few rows to compare: {groups}.": "样本过少、不参与比较：{groups}。",
    "Trained by the stage {stage}, after {before}, with Jichu {version}.": (
        "由阶段 {stage} 训练（接续 {before}），使用 Jichu {version}。"
    ),
    "Trained by the stage {stage}, with Jichu {version}.": "由阶段 {stage} 训练，使用 Jichu {version}。",
    "Trained once: what another seed, or other training rows, would have given is not in the intervals.": (
        "仅训练一次：置信区间不包含换用其他随机种子或训练样本带来的变化。"
    ),
    "Training": "训练",
    "What each word is worth to the answer, by {method}, of the {scale}": "每个词对预测结果的贡献（{method}，以{scale}计）",
    "What is taken for what: {stage}": "混淆情况：{stage}",
    "What it costs": "推理开销",
    "What it writes: {stage}": "生成示例：{stage}",
    "What may give the answer away": "可能泄露答案的列",
    "What ran is in `recipe.yaml`, all that was measured in `audit.json` and, to look at, in `report.html`.": (
        "所运行的配方见 `recipe.yaml`，全部测量结果见 `audit.json`，便于查看的版本见 `report.html`。"
    ),
    "When somebody wants it to err": "对抗攻击下的稳健性",
    "When the inputs are worse": "输入受损时的稳健性",
    "Where is it worst?": "表现最差的切片",
    "Whether attribution by {method} can be believed:": "用{method}得到的归因是否可信：",
    "Who asks {stage} can tell its training rows from others: AUROC {auroc} on {rows:,} rows.": (
        "成员推断：通过查询 {stage} 可以区分其训练样本与其他样本，AUROC 为 {auroc}，{rows:,} 条样本。"
    ),
    "Why": "可解释性",
    "Worst rows: {stage}": "误差最大的样本：{stage}",
    "Wrong, the surest first: {stage}": "预测错误的样本（置信度高者在前）：{stage}",
    "a map of the features": "特征分布图",
    "above the rest by": "高出其余样本",
    "accuracy of": "准确率",
    "accuracy of a linear probe": "线性探针的准确率",
    "accuracy on the training rows": "训练集准确率",
    "accuracy on the validation rows": "验证集准确率",
    "advantage": "优势",
    "after": "调整后",
    "after temperature": "温度缩放后",
    "all in colour": "全部为彩色",
    "all of {width:,}×{height:,} pixels": "全部为 {width:,}×{height:,} 像素",
    "always": "总是",
    "and": "与",
    "and {count:,} more": "另有 {count:,} 条",
    "and {count:,} more classes": "另有 {count:,} 个类别",
    "and {pairs:,} nearly so": "另有 {pairs:,} 对近似重复",
    "as it is": "原始",
    "as they are": "原始输入",
    "as they are stored, at {rate:,} Hz; half of the files are shorter than {seconds:.2f} s": (
        "存储采样率 {rate:,} Hz；半数文件短于 {seconds:.2f} 秒"
    ),
    "as they are stored, grey": "按灰度存储",
    "as they are stored, in colour": "按彩色存储",
    "asked": "要求",
    "attack on": "攻击对象",
    "batch": "批大小",
    "better by": "优于对方",
    "by": "方法",
    "by a coin": "由抛硬币决定",
    "by chance (q)": "偶然比例 (q)",
    "by how much": "余量",
    "by its loss": "依据损失",
    "calibration error": "校准误差",
    "precision": "精确率",
    "recall": "召回率",
    "{one} is worse than {two} in {metric}: {gain} on {rows:,} rows.": (
        "{one} 的{metric}不如 {two}：{gain}，{rows:,} 条样本。"
    ),
    "gain in {metric}": "{metric}增益",
    "by {method}, of the {scale}": "{method}，以{scale}计",
    "by {shadows} shadow models": "依据 {shadows} 个影子模型",
    "calibration error after": "校准后的校准误差",
    "change": "变化",
    "change at most, {norm}, {unit}": "最大改动（{norm}，{unit}）",
    "characters, half below {middle:,}": "字符，半数低于 {middle:,}",
    "characters, half of the texts {low:,} to {high:,}": "字符，半数文本为 {low:,} 至 {high:,} 个",
    "check": "检验",
    "class": "类别",
    "classes": "类别",
    "classes in a set": "集合中的类别数",
    "column": "列",
    "columns": "列",
    "confusion matrix": "混淆矩阵",
    "conversations": "对话",
    "corrupted, on average": "受损输入（平均）",
    "deletion, area: by lot": "删除曲线下面积：随机顺序",
    "deletion, area: what is worth most is taken away first": "删除曲线下面积：先删除贡献最大的部分",
    "doubt": "不确定度",
    "draws": "抽样次数",
    "duplicates": "重复",
    "effective rank of the features": "特征的有效秩",
    "error on the training rows": "训练集误差",
    "error on the validation rows": "验证集误差",
    "every record can be used": "所有记录均可用",
    "every record has a label": "所有记录均有标注",
    "fails": "未通过",
    "features of": "特征来自",
    "for the reasons below": "原因见下文",
    "forecasts {column}": "预测 {column} 的走势",
    "found": "实测",
    "from": "起点",
    "from {record} on": "自 {record} 起",
    "gate": "门槛",
    "gives {inputs} some of {count} tags, {column}": "为{inputs}标注 {count} 个标签（{column}）中的若干个",
    "goes on with texts": "续写文本",
    "groups by": "分组依据",
    "groups compared": "参与比较的群体数",
    "has features of {inputs} for other models to build on": "提供{inputs}的特征，供其他模型使用",
    "height": "高",
    "held-out rows": "留出样本数",
    "hold the truth": "包含真实类别",
    "holds": "通过",
    "how often right": "正确比例",
    "how sure": "置信度",
    "images": "图像",
    "importance": "重要性",
    "in": "所在划分",
    "in a share of cases from": "部分情形下的阈值",
    "in bins of equal mass": "等样本数分箱",
    "insertion, area: by lot": "插入曲线下面积：随机顺序",
    "insertion, area: it is put back first": "插入曲线下面积：先放回贡献最大的部分",
    "integrated gradients: by what share their sum misses the difference of the answers": (
        "积分梯度：各部分之和与输出差值相差的比例"
    ),
    "is": "真实",
    "is taken for": "预测为",
    "is {truth} · {record}": "真实为 {truth} · {record}",
    "it says": "模型输出",
    "joules a row": "每条样本能耗（焦耳）",
    "kind": "种类",
    "languages, as far as can be told: {languages}": "语言（尽可能识别）：{languages}",
    "loss": "损失",
    "loss on the training rows": "训练集损失",
    "loss on the validation rows": "验证集损失",
    "mean": "均值",
    "mean worth": "平均贡献",
    "measure": "指标",
    "members found at {share:.1%} false": "误报率 {share:.1%} 时识别出的成员",
    "memory of a step, MiB": "每步内存（MiB）",
    "model": "模型",
    "ms, 99th percentile": "毫秒（99 分位）",
    "ms, median": "毫秒（中位数）",
    "nobody": "无人入选",
    "none in colour": "均非彩色",
    "none silent": "无静音",
    "not spoken for": "例外样本",
    "not used": "未使用",
    "of the held-out rows did": "留出样本的实际覆盖率",
    "of the letters: {scripts}": "字母构成：{scripts}",
    "of these due": "其中应得",
    "of these trained": "其中参与训练",
    "on held-out rows": "留出样本上",
    "on the disk": "磁盘占用（MiB）",
    "on the same {rows:,} held-out rows; better by more than 0 is in favour of {one}": (
        "在相同的 {rows:,} 条留出样本上；大于 0 表示 {one} 更好"
    ),
    "one step": "单步攻击",
    "outcome": "结果",
    "parameters": "参数量",
    "peak MiB": "内存峰值（MiB）",
    "pictures": "图片",
    "precision of numbers": "数值精度",
    "predicted": "预测",
    "predicted against true {column}": "{column} 的预测值与真实值",
    "predicts {column}": "预测 {column}",
    "predicts {column} ({task})": "预测 {column}（{task}）",
    "predicts {column} from {inputs}": "由{inputs}预测 {column}",
    "rank correlation with what shuffled weights give: near 0 if it depends on what was learnt": (
        "与打乱权重后所得归因的秩相关：若归因取决于所学内容，则接近 0"
    ),
    "rates by {columns}": "按 {columns} 分组的比率",
    "reason": "原因",
    "record": "记录",
    "records": "记录",
    "reliability of {stage}": "{stage} 的可靠性图",
    "rise of the {what}": "{what}的上升",
    "row": "样本",
    "rows": "样本数",
    "rows a second": "每秒样本数",
    "runs": "运行次数",
    "score": "得分",
    "seconds": "秒",
    "seen in {count:,} of them, evenly spaced": "均匀抽查其中 {count:,} 个",
    "selected from a probability of": "入选概率阈值",
    "sets of equal records with different labels: {count:,}": "内容相同而标注不同的记录组：{count:,}",
    "sets of {share}": "{share} 预测集",
    "share wrong": "错误率",
    "slice": "切片",
    "slice that was found": "发现的切片",
    "sounds": "声音",
    "speaks against it": "反对",
    "speaks for it": "支持",
    "split": "划分",
    "squared error": "平方误差",
    "squares": "方块攻击",
    "stage": "阶段",
    "stand for many": "典型样本",
    "step": "步",
    "steps": "步数",
    "steps ahead": "预测步数",
    "strength of corruption": "扰动强度",
    "strength {strength}": "强度 {strength}",
    "tells {count} classes of {inputs} apart by {column}": "按 {column} 将{inputs}分为 {count} 类",
    "temperature found": "拟合温度",
    "the first, masked": "前几条（已遮盖）",
    "the others are UTF-8.": "其余为 UTF-8。",
    "the strongest": "最强攻击",
    "thresholds for {goal}": "{goal}阈值",
    "time": "用时",
    "training loss": "训练损失",
    "training rows": "训练样本数",
    "true": "真实",
    "true {column}": "{column} 的真实值",
    "under 0.1%": "不足 0.1%",
    "value": "数值",
    "what came": "实际值",
    "where": "条件",
    "width": "宽",
    "widths and heights of the images": "图像的宽与高",
    "without label": "无标注",
    "without labels": "无标注",
    "worth": "贡献",
    "writes {column}": "生成 {column}",
    "writes {column} to {inputs}": "根据{inputs}生成 {column}",
    "{backbone} with the head `{head}`": "{backbone}（模型头 `{head}`）",
    "{characters:,} characters in {bytes:,} bytes": "{characters:,} 个字符，{bytes:,} 字节",
    "{count:,} as one in another split": "其中 {count:,} 条与其他划分中的记录近似",
    "{count:,} at {rate} Hz": "{count:,} 个为 {rate} Hz",
    "{count:,} by the rule {rule}": "{count:,} 条因规则 {rule}",
    "{count:,} classes": "{count:,} 个类别",
    "{count:,} different": "{count:,} 个不同值",
    "{count:,} in colour": "{count:,} 个为彩色",
    "{count:,} more classes are not drawn.": "另有 {count:,} 个类别未画出。",
    "{count:,} not used, because held out too": "{count:,} 条因留出集中也有而未使用",
    "{count:,} silent": "{count:,} 个静音",
    "{count:,} with channels: {channels}": "{count:,} 个的声道数为 {channels}",
    "{count} words on average": "平均 {count} 个词",
    "{ends} on {rows:,} rows": "{ends}，{rows:,} 条样本",
    "{figure} against {across}": "{figure}随{across}的变化",
    "{figure} while training": "训练过程中的{figure}",
    "{figure}, 95% interval": "{figure}，95% 置信区间",
    "{file} is read as {encoding}": "{file} 按 {encoding} 读取",
    "{gate} {asked}: found is no number": "{gate} {asked}：实测不是数值",
    "{gate} {asked}: is {value}, fails by {by}": "{gate} {asked}：实测 {value}，差 {by} 未通过",
    "{gate} {asked}: is {value}, holds by {by}": "{gate} {asked}：实测 {value}，以 {by} 的余量通过",
    "{gate} {asked}: there is no such figure": "{gate} {asked}：没有这一指标",
    "{gate} {asked}: there is no such figure; did you mean {nearest}?": "{gate} {asked}：没有这一指标；是否指 {nearest}？",
    "{held} of {all} gates hold": "{all} 项门槛中 {held} 项通过",
    "{low:,} to {high:,} bytes": "{low:,} 至 {high:,} 字节",
    "{low:,} to {high:,} pixels high (half below {middle:,})": "高 {low:,} 至 {high:,} 像素（半数低于 {middle:,}）",
    "{low:,} to {high:,} pixels wide (half below {middle:,})": "宽 {low:,} 至 {high:,} 像素（半数低于 {middle:,}）",
    "{low:.2f} to {high:.2f} seconds long (half below {middle:.2f})": "长 {low:.2f} 至 {high:.2f} 秒（半数短于 {middle:.2f}）",
    "{low} to {high}": "{low} 至 {high}",
    "{members:,} rows that were trained on and {strangers:,} held-out ones; 0.5 of AUROC and 0 of advantage are what guessing"
    " gives.": "{members:,} 条训练样本与 {strangers:,} 条留出样本；随机猜测的 AUROC 为 0.5，优势为 0。",
    "{metric} of {stage}": "{stage} 的{metric}",
    "{model} that {does}.": "{model}：{does}。",
    "{model}: {why}, so larger batches were left out.": "{model}：{why}，因此略去更大的批。",
    "{one} against {two}": "{one} 与 {two} 的比较",
    "{pairs:,} training texts share a run of 13 words, or of 30 characters where words are not told apart, with {held_out:,} that"
    " are held out.": (
        "{pairs:,} 条训练文本与 {held_out:,} 条留出文本有连续 13 个词相同（不分词的语言为 30 个字符）。"
    ),
    "{rows:,} exact duplicates": "{rows:,} 条完全重复",
    "{rows:,} held-out rows of {source}": "{source} 的 {rows:,} 条留出样本",
    "{rows:,} held-out rows, each changed by at most {epsilon} {unit} in {norm}. The strongest: auto-PGD by two losses, FAB,"
    " random squares, each on those that still stand; a stronger attacker may leave less.": (
        "{rows:,} 条留出样本，每条按 {norm} 范数改动不超过{unit}的 {epsilon}。最强攻击：依次为两种损失的 auto-PGD、FAB 与随机方块攻击，"
        "每种只攻击此前仍预测正确的样本；更强的攻击者可能使准确率更低。"
    ),
    "{rows:,} held-out rows, each corrupted in every way and strength.": "{rows:,} 条留出样本，每条均以各种方式和强度加以扰动。",
    "{rows:,} records": "{rows:,} 条记录",
    "{rows:,} records could not be used, as `quarantine.jsonl` says.": "{rows:,} 条记录无法使用，见 `quarantine.jsonl`。",
    "{rows:,} records not used": "{rows:,} 条记录未使用",
    "{rows:,} records without label": "{rows:,} 条记录无标注",
    "{rows} records of {source}.": "{source} 的 {rows} 条记录。",
    "{sets:,} sets of equal records carry different labels.": "{sets:,} 组内容相同的记录标注不同。",
    "{share} lie within ±": "{share} 落在 ± 之内",
    "{share} missing": "{share} 缺失",
    "{share} of the cells missing": "{share} 的单元格缺失",
    "{stage} has no gradients; only its answers were asked.": "{stage} 没有梯度；只能查询其输出。",
    "{stage} is not explained. {why}": "未解释 {stage}。{why}",
    "{stage} is not right as often as it is sure: the calibration error is {error}.": (
        "{stage} 的置信度与实际正确率不符：校准误差为 {error}。"
    ),
    "{stage} is worst where {slice}: {error} {inside} on {rows:,} rows, {above} above the rest.": (
        "{stage} 在 {slice} 处表现最差：{error} {inside}，{rows:,} 条样本，比其余样本高 {above}。"
    ),
    "{stage}, first draw": "{stage}，第一次抽样",
    "{steps} steps": "{steps} 步攻击",
    "{test}: {one} alone is right, or the better, on {first} rows, {two} on {second}; p = {p}, after Holm {holm}": (
        "{test}：仅 {one} 正确或更好的有 {first} 条，仅 {two} 的有 {second} 条；p = {p}，经 Holm 校正为 {holm}"
    ),
    "{time} in all on {cores} cores ({processors}), {memory} MiB of memory at most.": (
        "共用时 {time}，{cores} 核（{processors}），内存最多 {memory} MiB。"
    ),
    "{time} on {cores} cores": "用时 {time}，{cores} 核",
}

NAMES = {
    "canaries": "金丝雀",
    "learning-curve": "学习曲线",
    "rules": "规则",
    "enforce": "强制",
    "flag": "标记",
    # metrics
    "accuracy": "准确率",
    "auroc": "AUROC",
    "average_precision": "平均精确率 (AP)",
    "balanced_accuracy": "平衡准确率",
    "bits_per_byte": "每字节比特数",
    "brier": "Brier 分数",
    "ece": "校准误差 (ECE)",
    "exact_match": "完全匹配率",
    "hamming_loss": "汉明损失",
    "log_loss": "对数损失",
    "macro_f1": "宏平均 F1",
    "macro_precision": "宏平均精确率",
    "macro_recall": "宏平均召回率",
    "mae": "平均绝对误差 (MAE)",
    "matthews": "马修斯相关系数",
    "median_absolute_error": "绝对误差中位数",
    "micro_f1": "微平均 F1",
    "micro_precision": "微平均精确率",
    "micro_recall": "微平均召回率",
    "mse": "均方误差 (MSE)",
    "perplexity": "困惑度",
    "pinball": "分位数损失",
    "precision": "精确率",
    "r2": "决定系数 (R²)",
    "recall": "召回率",
    "recall_at_specificity": "给定特异度下的召回率",
    "rmse": "均方根误差 (RMSE)",
    "scaled_mae": "标准化 MAE",
    "scaled_mse": "标准化 MSE",
    "token_loss": "词元损失",
    "top5_accuracy": "前 5 准确率",
    "top_k_accuracy": "前 k 准确率",
    "weighted_f1": "加权 F1",
    "weighted_precision": "加权精确率",
    "weighted_recall": "加权召回率",
    "gain": "增益",
    # retrieval and verification
    "recall_at_1": "召回率@1",
    "recall_at_5": "召回率@5",
    "recall_at_10": "召回率@10",
    "mean_average_precision": "平均精度均值 (mAP)",
    "verification_auroc": "验证 AUROC",
    "equal_error_rate": "等错误率",
    "accepted_at_1%": "误识率 1% 时的通过率",
    # fairness
    "selection_rate": "入选率",
    "true_positive_rate": "真阳性率",
    "false_positive_rate": "假阳性率",
    "confidence_above_rate": "置信度超出量",
    "mean_prediction": "平均预测值",
    "mean_error": "平均误差",
    "mean_absolute_error": "平均绝对误差",
    "mean absolute error": "平均绝对误差",
    "demographic_parity": "人口统计均等",
    "equal_opportunity": "机会均等",
    "equalised_odds": "几率均等",
    "demographic_parity_difference": "人口统计均等差",
    "demographic_parity_ratio": "人口统计均等比",
    "equal_opportunity_difference": "机会均等差",
    "equalised_odds_difference": "几率均等差",
    "accuracy_difference": "准确率差",
    "mean_prediction_difference": "平均预测值之差",
    "mean_error_difference": "平均误差之差",
    "mean_absolute_error_difference": "平均绝对误差之差",
    # calibration
    "temperature": "温度缩放",
    "vector": "向量缩放",
    "isotonic": "保序回归",
    # corruptions
    "gaussian_noise": "高斯噪声",
    "shot_noise": "散粒噪声",
    "impulse_noise": "脉冲噪声",
    "defocus_blur": "失焦模糊",
    "glass_blur": "毛玻璃模糊",
    "motion_blur": "运动模糊",
    "zoom_blur": "缩放模糊",
    "snow": "雪",
    "frost": "霜",
    "fog": "雾",
    "brightness": "亮度",
    "contrast": "对比度",
    "elastic": "弹性形变",
    "pixelate": "像素化",
    "jpeg": "JPEG 压缩",
    "typos": "错别字",
    "word_drops": "漏词",
    "letter_case": "大小写改变",
    "noise": "噪声",
    "missing": "缺失",
    "swapped": "单元格互换",
    "faster": "加速",
    "slower": "减速",
    "quiet": "音量降低",
    "clipped": "削波",
    "of the brightness": "亮度范围",
    "of the amplitude": "振幅",
    "of the distance of the quartiles": "四分位距",
    # explanations
    "attention-rollout": "注意力展开法",
    "grad-cam": "Grad-CAM 法（热力图）",
    "input-x-gradient": "输入×梯度法",
    "integrated-gradients": "积分梯度法",
    "occlusion": "遮挡法",
    "saliency": "显著图法",
    "shapley": "Shapley 值法",
    "logit": "logit",
    "probability": "概率",
    "attention": "注意力",
    # parts of an audit
    "calibration": "校准",
    "corruptions": "输入扰动",
    "cost": "推理开销",
    "doubtful": "存疑样本",
    "embeddings": "特征",
    "explanation": "可解释性",
    "fairness": "公平性",
    "membership": "成员推断",
    "robustness": "对抗稳健性",
    "slices": "切片",
    # data
    "train": "训练集",
    "validation": "验证集",
    "test": "测试集",
    "classification": "分类",
    "multilabel": "多标签",
    "regression": "回归",
    "forecast": "时序预测",
    "language": "语言模型",
    "number": "数值",
    "category": "类别",
    "text": "文本",
    "chat": "对话",
    "tags": "标签",
    "timestamp": "时间",
    "image": "图像",
    "audio": "声音",
    "ignored": "忽略",
    "position": "位置",
    "images": "图像",
    "sounds": "声音",
    "series": "时间序列",
    "texts": "文本",
    "rows of a table": "表格行",
    "e-mail": "电子邮箱",
    "identity card": "身份证号",
    "social security number": "社会安全号码",
    "bank card": "银行卡号",
    "IP address": "IP 地址",
    "phone": "电话号码",
    "Latin": "拉丁字母",
    "Greek": "希腊字母",
    "Cyrillic": "西里尔字母",
    "Hebrew": "希伯来字母",
    "Arabic": "阿拉伯字母",
    "Devanagari": "天城文",
    "Thai": "泰文",
    "Hangul": "谚文",
    "Kana": "假名",
    "Han": "汉字",
}

KEPT = {
    # why a part could not be measured
    "models that write are not trained anew": "生成文本的模型不会重新训练",
    "what was made smaller is not trained anew": "压缩后的模型不会重新训练",
    "these are not the data that the run was trained on": "这些不是该次运行所用的训练数据",
    "the data have changed since the run was trained": "自训练以来数据已改变",
    "its backbone was given in Python and not by name": "其主干网络由 Python 直接给出而非按名称指定",
    "the error does not surely fall": "误差未见确切下降",
    "the errors do not lie on such a curve": "误差不在这样的曲线上",
    "{count} sizes are too few for a curve, which wants {wanted}": "{count} 种规模不足以拟合曲线，至少需要 {wanted} 种",
    # groups and splits
    "not known": "未知",
    "not used": "未使用",
    "train": "训练集",
    "validation": "验证集",
    "test": "测试集",
    "{low} to {high}": "{low} 至 {high}",
    "{count} others": "其余 {count} 组",
    # roles of columns
    "input": "输入",
    "group": "分组",
    "time": "时间",
    "weight": "权重",
    "split": "划分",
    "kept aside": "另存",
    "input, text": "输入，文本",
    "input, conversations": "输入，对话",
    "target, forecast": "目标，时序预测",
    "target, {task}": "目标，{task}",
    "target {number}, {task}": "目标 {number}，{task}",
    "classification": "分类",
    "multilabel": "多标签",
    "regression": "回归",
    "text": "文本",
    # how data are stored
    "images of {width}×{height} pixels, {channels} channel{s}": "图像 {width}×{height} 像素，{channels} 通道",
    "sounds of {seconds} s at {rate} Hz": "声音 {seconds} 秒，{rate} Hz",
    # notes on columns
    "as the recipe says": "按配方设定",
    "every cell is missing": "所有单元格均缺失",
    "the same value in every row": "每行取值相同",
    "a key: another whole number in every row": "键：每行为不同的整数",
    "a key: another value in every row": "键：每行取值均不同",
    "cells of type {kind} are not used": "不使用 {kind} 类型的单元格",
    "read as month/day/year": "按 月/日/年 读取",
    "mixed: {share} of the cells are numbers": "混合类型：{share} 的单元格为数值",
    "lists of {count} different values": "含 {count} 个不同值的列表",
    "of a kind that is not forecast": "不是可预测的类型",
    "{count} cells are infinite or beyond 3e38, taken as missing": "{count} 个单元格为无穷大或超过 3e38，按缺失处理",
    "{count} cells are no {kind}, taken as missing; the first: row {row}, {cell}": (
        "{count} 个单元格不是{kind}，按缺失处理；第一个在第 {row} 行：{cell}"
    ),
    "one image or sound a row is used, and an earlier column has it": "每行只用一个图像或声音，已取较前的一列",
    "texts are read alone, without it": "只读取文本，不用此列",
    "free text, which data.text would name to be read": "自由文本，需在 data.text 中指定才会读取",
    "for data.split.time only": "仅用于 data.split.time",
    "tags are used as a target only": "标签列只能作为目标",
    # remarks on data
    "{column} tells the target almost by itself ({measure} {score}): would it be known when a prediction is wanted?": (
        "仅凭 {column} 几乎就能得出目标（{measure} {score}）：预测时真的能知道它吗？"
    ),
    "the {what} alone says much of the class ({measure} {score}): it may be learned instead": (
        "仅凭{what}就能在很大程度上判断类别（{measure} {score}）：模型可能学到的是它"
    ),
    "width of the image": "图像宽度",
    "height of the image": "图像高度",
    "colour of the file": "文件颜色",
    "format of the file": "文件格式",
    "size of the file": "文件大小",
    "{near} records look nearly the same as one in another split ({held_out} are held out): held-out figures may flatter": (
        "{near} 条记录与其他划分中的记录几乎相同（留出 {held_out} 条）：留出集上的指标可能偏高"
    ),
    "{count} held-out texts share a passage with one that is trained on: data.clean.contamination leaves those out": (
        "{count} 条留出文本与训练文本有相同片段：可用 data.clean.contamination 剔除"
    ),
    "there are personal data ({told} rows): a model may learn them by heart; data.clean.personal leaves such texts out": (
        "含有个人信息（{told} 行）：模型可能将其记住；可用 data.clean.personal 剔除此类文本"
    ),
    "{kind} in {rows}": "{kind}出现于 {rows}",
    "e-mail": "电子邮箱",
    "identity card": "身份证号",
    "social security number": "社会安全号码",
    "bank card": "银行卡号",
    "IP address": "IP 地址",
    "phone": "电话号码",
    "{count} of the sounds are silent from end to end": "{count} 段声音从头到尾静音",
    "{count} at {rate} Hz": "{count} 段为 {rate} Hz",
    "the sounds differ in rate ({told}): all are resampled to {kept} Hz": "声音的采样率不一（{told}）：全部重采样为 {kept} Hz",
    "the classes are unbalanced ({most} to {least} rows): look at balanced_accuracy or auroc, and at class_weights: balanced": (
        "类别不均衡（{most} 条对 {least} 条）：请看 balanced_accuracy 或 auroc，并考虑 class_weights: balanced"
    ),
    "fewer than 10 training rows of {classes}": "训练样本不足 10 条的类别：{classes}",
    "{column} has one class only: nothing can be learned from labels": "{column} 只有一个类别：从标注中学不到任何东西",
    "some texts of {column} ({share}) seem to be in {languages}: data.clean.language leaves languages out": (
        "{column} 中有部分文本（{share}）似乎是 {languages}：可用 data.clean.language 剔除某些语言"
    ),
    # why records are not used
    "the same as {record}": "与 {record} 相同",
    "nearly the same as {record}": "与 {record} 几乎相同",
    "shares a passage with {record}, which is held out": "与留出的 {record} 有相同片段",
    "the language is {language}": "语言为 {language}",
    "{characters} characters, fewer than {least}": "{characters} 个字符，少于 {least}",
    "{characters} characters, more than {most}": "{characters} 个字符，多于 {most}",
    "{share} of the characters are letters": "只有 {share} 的字符是文字",
    "{share} of the words have a letter": "只有 {share} 的词含有字母",
    "{mean} letters a word": "平均每词 {mean} 个字母",
    "no text in the column {column}": "列 {column} 中没有文本",
    "NUL characters in the column {column}": "列 {column} 中有 NUL 字符",
    "{share} of the column {column} are control characters": "列 {column} 中 {share} 为控制字符",
    "not finite": "含非有限数值",
    "there is no file {path}": "文件 {path} 不存在",
    "its name does not match the pattern {pattern}": "文件名与模式 {pattern} 不符",
    "its loss was not finite in {stage}": "在 {stage} 中损失不是有限值",
    "{found} cells, not {wanted}": "有 {found} 个单元格，应为 {wanted} 个",
    # what a stage warns of
    "{stage} at its first step: {text}": "{stage} 第一步：{text}",
    "{layer} gives numbers that are not finite: its weights or inputs are too large": (
        "{layer} 的输出不是有限值：权重或输入过大"
    ),
    "{share} of the units of {layer} are zero for every row: biases or weights before it are too negative, or its inputs not"
    " centred; he-normal with zero biases, a normalisation before it, or a leaky ReLU": (
        "{layer} 中 {share} 的单元对所有样本均为零：此前的偏置或权重过负，或输入未中心化；可用 he-normal 与零偏置、在其前加归一化，"
        "或用 leaky ReLU"
    ),
    "{stage}: {text}": "{stage}：{text}",
    "the loss is hardly lower than at its first step, {first}: the model learnt nothing, perhaps for an optimizer.lr far too"
    " large or too small": "损失与第一步（{first}）相比几乎没有下降：模型什么也没学到，可能是 optimizer.lr 过大或过小",
    "zeros in dense matrices are smaller when packed (gzip), not faster": "稠密矩阵中的零只在打包（gzip）后更小，并不更快",
    "rounded weights are kept in 32 bits, smaller and perhaps faster once exported as int8": (
        "舍入后的权重仍以 32 位保存；导出为 int8 后才更小，也许更快"
    ),
    "the loss of {record}{more} was not finite; left out, see quarantine.jsonl": (
        "{record}{more} 的损失不是有限值；已剔除，见 quarantine.jsonl"
    ),
    "collapsed: all rows get nearly the same embedding (they differ by {share} of its size). Likely cause: equal views are"
    " rewarded more than different rows; {remedy}": (
        "已坍缩：所有样本得到几乎相同的嵌入（差异仅为其大小的 {share}）。可能原因：同一样本的视图趋同所得的奖励超过了不同样本的区分；{remedy}"
    ),
    "collapsed: features vary along {directions} directions only ({share} of the possible). Likely cause: augmentation so strong"
    " that only one trait survives it, or rows that are nearly all alike; or {remedy}": (
        "已坍缩：特征只沿 {directions} 个方向变化（可能方向的 {share}）。可能原因：增强过强，只有一种特性得以保留，或样本几乎雷同；或"
        "{remedy}"
    ),
    "lower optimizer.lr": "请降低 optimizer.lr",
    "lower the objective's teacher_temperature or optimizer.lr, or raise its momentum": (
        "请降低目标的 teacher_temperature 或 optimizer.lr，或提高其 momentum"
    ),
    "raise the objective's share, or lower optimizer.lr": "请提高目标的 share，或降低 optimizer.lr",
    "raise the objective's momentum, lower optimizer.lr, or keep normalisation in the backbone": (
        "请提高目标的 momentum，降低 optimizer.lr，或在主干网络中保留归一化"
    ),
    "raise the objective's weight of redundancy, or lower optimizer.lr": "请提高目标的 redundancy 权重，或降低 optimizer.lr",
    "lower the objective's temperature, or optimizer.lr": "请降低目标的 temperature，或 optimizer.lr",
    "raise the objective's weight of variance or covariance, or lower optimizer.lr": (
        "请提高目标的 variance 或 covariance 权重，或降低 optimizer.lr"
    ),
    "{what} vanish: their std falls from {start} at {first} to {end} at {last}; the weights are too small for this depth; {cure}": (
        "{what}消失：标准差由 {first} 处的 {start} 降至 {last} 处的 {end}；对这样的深度而言权重过小；{cure}"
    ),
    "{what} explode: their std grows from {start} at {first} to {end} at {last}; the weights are too large for this depth;"
    " {cure}": "{what}爆炸：标准差由 {first} 处的 {start} 升至 {last} 处的 {end}；对这样的深度而言权重过大；{cure}",
    "activations": "激活值",
    "gradients": "梯度",
    "initialise: he-normal (with ReLU) or xavier-normal (with tanh), or a normalisation after each layer": (
        "可设 initialise: he-normal（配 ReLU）或 xavier-normal（配 tanh），或在每层后加归一化"
    ),
    # why a measurement of cost stopped
    "{rows} rows would not fit into the free memory": "{rows} 条样本超出可用内存",
    "{rows} rows would take about {seconds} s": "{rows} 条样本约需 {seconds} 秒",
    # signs of hidden gradients
    "one step fools {fooled} of {rows} rows that many steps do not": "单步攻击骗过了 {rows} 行中多步攻击骗不过的 {fooled} 行",
    "squares, which follow no gradient, fool {fooled} that gradients do not": "不依赖梯度的方块攻击骗过了梯度攻击骗不过的 {fooled} 行",
    "{rows} stand {times} times the change": "有 {rows} 行在 {times} 倍的改动下依然预测正确",
    "the gradient of {rows} right rows is nothing": "有 {rows} 行预测正确而梯度为零",
}

NAMES |= chinese_drift.NAMES | chinese_board.NAMES
