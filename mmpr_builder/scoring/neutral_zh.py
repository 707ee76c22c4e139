"""Chinese words that leave the value beside them as it is, as data; the twin of `neutral`."""

from __future__ import annotations

import re

from mmpr_builder.scoring.clean import words

_LEADS = words("""
    是 为 等于 有 共 一共 总共 总计 合计 共计 共有 答案 答 得 可得 得到 得出 解得 即 也就是 则 就是
    结果 约 约为 大约 大约是 大约为 大概 恰好 正好 刚好 需要 需 要 用 用了 花 花了 花费 买 买了
    走了 行驶了 跑了 还有 还剩 剩 剩下 占 占了 显示 表示 长 宽 高 深 重 时速 值为 因此 所以 故 写着
    叫 叫做 在 相距 找回 应找 得了 用时 历时 耗时 比是 比为 今年 写作 读作 记作 达 达到 估计有
""")
_OTHERS = words("""
    综上 综上所述 由此可知 可知 那么 可以 应该 应 最终 最后 最终答案 正确 正确答案 本题 的 了 中 里
    上 图 图中 图片 图片中 画面 画面中 图上 图形 这个 这些 该 此 其 它 它们 他 她 他们 我们 我 卖
    走 行驶 跑 完成 总数 总和 和 差 积 商 数 数量 个数 人数 数目 数值 值 面积 周长 体积 表面积
    侧面积 底面积 长度 宽度 高度 深度 厚度 边长 半径 直径 圆周长 距离 路程 速度 时间 质量 重量 体重
    身高 温度 价格 单价 总价 价钱 年龄 度数 角度 角 夹角 乘积 对角线 对边 底 底边 斜边 直角边 概率
    比例 比值 百分比 百分率 平均数 平均值 平均分 平均 中位数 众数 极差 方差 最大值 最小值 最大 最小
    斜率 截距 大小 三角形 正方形 长方形 矩形 圆
    圆形 梯形 平行四边形 菱形 四边形 五边形 六边形 多边形
    圆柱 圆锥 球 正方体 长方体 立方体 线段 直线 边 顶点 点 坐标 函数 方程 解 电流 电压 电阻 功率 力
    压强 密度 加速度 功 学生 同学 人 颜色 形状 树 全班 男生 女生 数字 分数 得分 年份 读数 指示 小明
    小红 小华 小刚 小丽 温差 利息 利润 现价 现在 面积比 周长比 体积比 相似比 之比 面积之比 周长之比
    最小公倍数 最大公因数 最大公约数 公差 公比 商 原方程
    两地 甲乙 公倍数 公因数 命中率 及格率 合格率
    出勤率 发芽率 增长率 百分数 次数 系数 余数 倍数 差值 标准差 这 估计 总人数 个位数 项数 首项 示数
    弧长 圆心角 圆周角 母线 母线长 弦长 这时 此时 答案应 票价 影长 棱长 对称点 对称轴 解析式 表达式
    解集 原方程组 方程组 非空 非空子集 子集 参加
    方法 走法 选法 办法 棱长和 棱长总和 阴影部分 涂色部分
    阴影部分的面积 不同 非负 不等式
""")
BOUNDS_ZH = ("至少", "至多", "最多", "最少")
"""These bound a value, unless it is asked for with the same word."""
FUNCTION_ZH = frozenset(
    words("一共 总共 总计 合计 共计 共有 今年 现在 可以 需要 应该 图中 其中 这个 我们 他们 它们")
)
"""Words of so many questions that repeating them says nothing."""
REMAINING_ZH = frozenset(words("还有 还剩 剩 剩下"))
"""These name another value, unless it is asked what is left."""
MEASURED_ZH = frozenset(
    words("""
    面积 周长 体积 表面积 侧面积 底面积 长度 宽度 高度 深度 厚度 边长 半径 直径 距离 路程 速度 时间
    质量 重量 体重 身高 温度 价格 单价 总价 年龄 概率 比例 比值 平均数 平均值 平均分 中位数 众数
    极差 方差 最大值 最小值 斜率 截距 电流 电压 电阻 功率 压强 密度 温差 利息 利润 现价 面积比
    周长比 相似比 体积比 总和 乘积 商 得分 人数 总人数 命中率 票价 弧长 影长 棱长
    最小公倍数 最大公因数 最大公约数
    """)
)
"""May stand directly before a value: 周长28厘米."""
PERSON_ZH = re.compile(
    "小[明红华刚丽强军芳亮林东兰英李王张玲美伟青云芸敏杰勇]|爸爸|妈妈|爷爷|奶奶|哥哥|姐姐|弟弟|妹妹|叔叔"
    "|阿姨|老师|[甲乙丙丁](?!方)|男生|女生|全班|全校|树"
)
_MEASURES = words("""
    面积比 周长比 体积比 相似比 表面积 侧面积 底面积 面积 周长 体积 容积 边长 弧长
    棱长 影长 半径 直径 对角线 高度 长度 宽度 路程 速度 时间 温差 气温 概率 重量 体重 身高 年龄 度数
    中位数 众数 平均数 方差 极差 电流 电压 电阻 功率 压强 密度 利息 利润 本金 现价 原价 售价 进价
    总价 单价 斜率 截距
""")
_SHORT = "(?<![增最成])长(?![方度])|宽(?!度)|(?<![最提])高(?!度)|深(?!度)"
RIVALS_ZH = (
    re.compile("|".join(_MEASURES) + "|" + _SHORT),
    re.compile("今年|去年|明年|前年|后年|[0-9]+年[前后]"),
    re.compile("现在|原来|原有|以前|过去|后来"),
    re.compile(r"一共|总共|合计|共计|总和|平均|(?:\A|(?<=\|))每(?![^|]*的)"),
    re.compile(r"(?:(?<=的)|\A)[和差积商](?=[是为|]|\Z)|平均[数值分]|被[减除]数|[减除加]数"),
    re.compile("圆柱|圆锥|球体|正方体|长方体|三角形|正方形|长方形|梯形|平行四边形|菱形"),
    re.compile("最小公倍数|最大公因数|最大公约数"),
    re.compile("[没未]有?涂色|阴影|空白|涂色"),
    re.compile("内角|外角|余角|补角"),
    re.compile("圆心角|圆周角"),
    re.compile("顶角|底角"),
    re.compile("系数|次数|商|余数"),
)
"""Names of a kind: one of them is no answer where another one is asked for."""
CONNECTORS_ZH = frozenset(words("因此 所以 故 则 即 答 答案 综上 综上所述 由此可知 可知"))
"""After these a comma does not begin another statement."""
LEADS_ZH = frozenset(_LEADS)
NEUTRAL_ZH = frozenset([*_LEADS, *_OTHERS])
LONGEST_ZH = max(map(len, NEUTRAL_ZH))
CHANGING_ZH = re.compile(
    "[不非没无未除超少减加乘倍半折反倒余多比近或至到每第以之前后内外下另几双对打错负过弱强够缺欠差百千万亿成组套]"
    "|[大小高低早晚等]于"
)
"""In a word that is not listed, what makes it more than the name of a thing."""
_HARMLESS = sorted((w for w in NEUTRAL_ZH if len(w) > 1 and CHANGING_ZH.search(w)), key=len)
_LISTED = re.compile("|".join(reversed(_HARMLESS)))
_TURNS = re.compile("[不非没无未除超少减加乘倍半反倒余多比近或至几错负弱欠差]")
_DENIES = re.compile(
    "不[是到足等够超能会止及对]|[没未]有?|并非|非[0-9]|[0-9个]到[0-9]|超[过出]|至[少多]"
    "|最[多少](?=[有是为能可]?[0-9一二三四五六七八九十])|[大小高低多少]于|以[上下内外]|将近"
    "|接近|[0-9个人只本元米]多|或|一半|减[去少]?|除[了去以]|倒数|相反数|平方根|立方根|之一|每[0-9]"
)


def unlisted_zh(text: str) -> str:
    """A text without the words listed here that have a changing character: 不等式, 最小公倍数."""
    return _LISTED.sub("", text)


def changes_zh(text: str) -> bool:
    """Whether a text has a character that may change a value, outside the words listed here."""
    return bool(CHANGING_ZH.search(unlisted_zh(text)))


def turns_zh(text: str) -> bool:
    """The same of words that a question has in this order, where 摸到 and 打八折后 only name."""
    return bool(_TURNS.search(unlisted_zh(text)))


def denies_zh(text: str) -> bool:
    """Whether a text says for certain that a value in it is not the answer: 不是7, 超过7, 7或8."""
    return bool(_DENIES.search(unlisted_zh(text)))


MULTIPLYING_ZH = frozenset("双对打倍成折组套层排行列号点")
"""Measure words of more than one thing: 5双 are ten."""


_THING = re.compile("[\u3400-\u9fff]{1,4}")


def is_thing(text: str) -> bool:
    """Whether a word behind a measure word only names what is counted: 苹果 in 5个苹果."""
    return bool(_THING.fullmatch(text)) and not (
        CHANGING_ZH.search(text) or set("一二三四五六七八九十") & set(text)
    )
