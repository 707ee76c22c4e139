"""Chinese words that leave the value beside them as it is, as data; the twin of `neutral`."""

from __future__ import annotations

import re

from mmpr_builder.scoring.clean import words

_LEADS = words("""
    是 为 等于 有 共 一共 总共 总计 合计 共计 共有 答案 答 得 可得 得到 得出 解得 即 也就是 则
    就是 结果 约 约为 大约 大约是 大约为 大概 恰好 正好 刚好 需要 需 要 用 用了 花 花了 花费 买
    买了 走了 行驶了 跑了 还有 还剩 剩 剩下 占 占了 显示 表示 长 宽 高 深 重 时速 值为 因此 所以
    故 写着 叫 叫做 在
""")
_OTHERS = words("""
    综上 综上所述 由此可知 可知 那么 可以 应该 应 最终 最后 最终答案 正确 正确答案 本题 的 了 中
    里 上 图 图中 图片 图片中 画面 画面中 图上 图形 这个 这些 该 此 其 它 它们 他 她 他们 我们 我
    卖 走 行驶 跑 完成 总数 总和 和 差 积 商 数 数量 个数 人数 数目 数值 值 面积 周长 体积 表面积
    侧面积 底面积 长度 宽度 高度 深度 厚度 边长 半径 直径 圆周长 距离 路程 速度 时间 质量 重量
    体重 身高 温度 价格 单价 总价 价钱 年龄 度数 角度 角 夹角 乘积 对角线 对边 底 底边 斜边
    直角边 概率 比例 比值 百分比 百分率 平均数 平均值 平均分 平均 中位数 众数 极差 方差 最大值
    最小值 最大 最小 斜率 截距 大小 三角形 正方形 长方形 矩形 圆 圆形 梯形 平行四边形 菱形 四边形
    五边形 六边形 多边形 圆柱 圆锥 球 正方体 长方体 立方体 线段 直线 边 顶点 点 坐标 函数 方程 解
    电流 电压 电阻 功率 力 压强 密度 加速度 功 学生 同学 人 颜色 形状 树 全班 男生 女生 数字 分数
    得分 年份 读数 指示 小明 小红 小华 小刚 小丽
""")
CONNECTORS_ZH = frozenset(words("因此 所以 故 则 即 答 答案 综上 综上所述 由此可知 可知"))
"""After these a comma does not begin another statement."""
LEADS_ZH = frozenset(_LEADS)
NEUTRAL_ZH = frozenset([*_LEADS, *_OTHERS])
LONGEST_ZH = max(map(len, NEUTRAL_ZH))
CHANGING_ZH = re.compile(
    "[不非没无未除超少减加乘倍半折反倒余多比近或至到每第以之前后内外下另几双对打错负过弱强够缺欠差百千万亿成组套]|[大小高低早晚等]于"
)
"""In a word that is not listed, what makes it more than the name of a thing."""
MULTIPLYING_ZH = frozenset("双对打倍成折组套层排行列号点")
"""Measure words of more than one thing: 5双 are ten."""


_THING = re.compile("[\u3400-\u9fff]{1,4}")


def is_thing(text: str) -> bool:
    """Whether a word behind a measure word only names what is counted: 苹果 in 5个苹果."""
    return bool(_THING.fullmatch(text)) and not (
        CHANGING_ZH.search(text) or set("一二三四五六七八九十") & set(text)
    )
