<#
Proves on a Windows host what certdeploy's connectors `windows-store` and `iis` rely on, with the very scripts that they send.

Run it from a checkout of certdeploy, in Windows PowerShell 5.1 as an administrator, on a host that may be changed:

    powershell.exe -NoProfile -ExecutionPolicy Bypass -File docs\examples\windows\prove.ps1

It imports three certificates for proof.certdeploy.test, makes the site certdeploy-proof with a binding on port 54443, changes that, and
removes everything again. IIS is left out where it is not installed. The keys are public, here below: nothing may trust them.
It prints a table to be signed, and exits with the number of claims that failed.
#>
param(
    [string]$Scripts = (Join-Path $PSScriptRoot '..\..\..\connectors\support\powershell\src\scripts'),
    [int]$Port = 54443
)

$ErrorActionPreference = 'Stop'
Set-StrictMode -Version 2
$ProgressPreference = 'SilentlyContinue'

$Password = 'proof-of-certdeploy'
$Mark = '[certdeploy:proof '
$Site = 'certdeploy-proof'
$HostName = 'proof.certdeploy.test'
$Folder = Join-Path $env:TEMP 'certdeploy-proof'
$Rows = New-Object System.Collections.ArrayList

# RSA with Triple DES and SHA-1, RSA with AES-256 and SHA-256, and P-256 with the older encryption again.
$Old = @{
    thumbprint = 'F0810D033813CD3BBEE613AFEC61B5048221EBD2'
    sha256 = '7ed4cddb4bd7063380bb9b25e7f56efb00e472aec981fb0cb727c399f5d5956f'
    pfx = @'
MIIJfgIBAzCCCTwGCSqGSIb3DQEHAaCCCS0EggkpMIIJJTCCA08GCSqGSIb3DQEHBqCCA0AwggM8AgEAMIIDNQYJKoZIhvcNAQcBMCQGCiqGSIb3DQEMAQMw
FgQQ150sYFbjflAA5y8A81fqHgICJxCAggMAyeW/3SgTTcAZkk7qVEf1/Ywnc1bcVTbsri8o2XcC+UoWXaV2tKbKdw/6Bej6xli9HnhqbZXzoElbRtPQ669b
vVpf+DR0gjRstLHMkhJ1utVWsyJzbstDzfeBdEjLrheNXCDvsSkK/F6tpbn3ER1yibiTnQ24HO+N8kqsqfhy8FJ4/9vBqn1Ou7eUk8GjqTJfB9/mpMjNyZ+6
0Fuv3zHH9I0Ewz1120g138Q0G5l3boOaTltm/1pPLYE53JRdtb3IhwWANt+PtMueoJUlhXoJOlbfU7AvCM+qrjlwJtZy1zORnubPqw9iurlDT50UI1D5Pml+
QRCSlqIfDeWOlKUgrGeBNnQCwVDrCT6lDOvWsSAUuD1lHfiUP8UYBgn3y6U5pAhqeMbqgKOGE7HMiHn/crCGyMvuWLwWn71YSFr1OVMJkF4wsTawfwvPX1in
lWOt5KtvMbTWGfZw4Xvumm3BGHQ3d+nqfBv3ckll0SE+XiKvms3hZ0JSwH5GuYY3B99PM2GcuOaNe9JRkff15Blm6elOnJorjWEDndAEL4bzb/ZheNZ71zcq
1FJ+Yv590fBysI1ynYwzvlsdh+iztMCUsN0felx3gVwSpOPuSxGZmbZHU+VRrfql+8ydIvJU3Pb6tLaQxBFAF36ee7qaEmhPgvCHd05aTog0BjuwWqnDUKqM
xlywPnnPB/t1x5t+B/EIj7sEyh3toDwiVmwuvDeRHwXW8CGtSjWRCmM+0JVaa8PQBSdIN5NXJSK8zliamif0XfHqjfRbqr27adDgCv8pNf6lJrgFrclk8Wv6
uvLt1cMpuVKTW1/6b7mX9b9thmsedUeTtJPRaz6fgTMTLRyc4b8tJUqevrx/PegIk5gyAXQ+mf0G6ETsRf192kjyEBdRhk1HW9UvI0ULorzwWYYTvm4jJB62
HKxnvxdS0fDPZAFmEhDhbHzalqlpEwYY3zA8yVP9CTH/aSdCmiVFekeBC6dMH2edU7K1PnG4qy4ioGOHv8HRK7fBZk5+Nz3eiJyUMIIFzgYJKoZIhvcNAQcB
oIIFvwSCBbswggW3MIIFswYLKoZIhvcNAQwKAQKgggT2MIIE8jAkBgoqhkiG9w0BDAEDMBYEENXUOLaXkqSRaHNyHw51Gd4CAicQBIIEyDKm6Tf6mhoWJaGW
NRBXVlvZhHM8BbSQTF89w8U4A09YVbRSg5JHXll729NTLyCccA+MbIisjhoK/4B5VhFhrA4EMeyDolrhJZkh1W182ALc5G5GxLXmQ+dzFCpj3VaDsKuQTZii
18fGQyYcO/svY+ZLUyv1DjPlEbXVJc7TOff5kVfQBhBSIYR1W7oKZ3m70Potr5llU+Cn28F0rU42wbtJXOyLpkK1iUM0EtRXV+lyuqr6gaDfzX2vJ77WV/Ao
GqLXIWQeSAMFQYfptpUQg9B43pubT17VN6P7he2DFpHavfFDHcUGdRe5/XXF44WTn9dSUQojzBPceSF2VALZUJDTGLJKr0RMwPFIly+gEfHDHk1T18FmLlin
m+pD/mxwZVmDI/D2PFS/N32kJsh1p4BFEYZUXITQM1X9pspa1Itb51oVdU6oBd+csnlwXWtQGhzeEvTWM4hV3Eki3tuKF2G22Gd9bYoBLXUUIPc4jCoV1C6i
L4XSwJhB539+Cj2WDlSKOazIawIqbLs4Ltj4HLmzRERA4otFsdfm9m4HJlJGiFsR6JrxFOnu6PQ8/TaJtisxi1KKVc/mmiiXbqhx4n6i4E2Hhl/Yws/lzzw9
aqsC6JGt5snWOS+m1fxFhddaq8INnFSQ8akY/wYoxSxTf55fKur3JONgv70dDAfToua9VcKzUCS8gmEicvIeDeXAwkSW5p8rb2a4A2QQ1qdrsvuydN5kKd3o
PEGiEq/fhzWLEr0GlLaDpDq7s2IAvfIwFj8t+98FYFDa1J3aAq56jngL1j5yjkT2EWezzrNkmpLqqPBYVifswlATRXWuMkpXRNRUiUryo8O7UrbT/eaTp7LC
Wn0N9JV/eG4xShzE20g1bYP0F+iCCFjp5QU7qNMQUgwLs+NKwy/GwvMTziHqYuJlpRrglzJZqHpHPNQchHUM6w6ziDQ9ge6xP2TNejNE3b3PFQa+Dqi8KDLF
dbLIPQtK3LTL8dMgxH1WSIgjEcZNRGoGCElJlSB/pKdeJi0hdXo78pNswWEqVzEkhvTkHKuZHFF6PcoUjeC4y24voWy2QxL7TGsxUCtFakq7HZ9Q+2m1z3PQ
wTkMTASZL6Q9yLACW4AbKSyoeXKA813tx6XMHlcVfvVL3T6hRDLQVNmDrkTJuJqMC0+YXs1/HNSlt56/xGrvtNosDVrpDZjv6MkN2eNJkzAxKDc23TGAYPDn
viDDw+Zfg8bzu29DPMs3gzhB8ATqACwdRIrkJcKx9nS8lq5MdSxFSxSL6aXf70jVFxV/5agMuXapmUeCKrNYVo3JojBRYLHo7k5SEezk0SDGuW9nL0acMqi/
wtdEiIh6CYY5mnvCHHxHaoDuTeFVOj9C8XvgXoZ4htln2WtF3diXe7NItO4XpgOPPS9lp6cnGWoNbySo8X5J73C4JCmfSYzaiZfLo0sBeNyi56qPhW5YPlvr
zg/mVSS5TTDW0eGTZuS5KBn5Gvi4fezQBLQAQXNiurv6Ezx+9x7k0m02ZqBWPEASDe0RkmmkR3OylOi46o09Ytb3sCb89FXsH7wA2HRJBHHwN+hj71Eg7Yuy
iqdT46PXe833WudWrbLQE7mAavJ77s+L6KDbdASaAoOIXuW+AgVzuUlKQTGBqTAjBgkqhkiG9w0BCRQxFh4UAGMAZQByAHQAZABlAHAAbABvAHkwIwYJKoZI
hvcNAQkVMRYEFBYxFiq8OdBI0RTz+Vs1wwk8cYV3MF0GCSsGAQQBgjcRATFQHk4ATQBpAGMAcgBvAHMAbwBmAHQAIABTAG8AZgB0AHcAYQByAGUAIABLAGUA
eQAgAFMAdABvAHIAYQBnAGUAIABQAHIAbwB2AGkAZABlAHIwOTAhMAkGBSsOAwIaBQAEFJe9sWpJJRfxpgMe/Ew4Kh3ht8C9BBC/roQeWF6b58FaKMI+Qgs7
AgInEA==
'@
}
$New = @{
    thumbprint = '89ACA89538DDFC43CE35D396DBB7EC3BE4A40633'
    sha256 = '624a09ca0e1eff1b68a277881951827de2a2727e013e88982ff75e1d2666b70e'
    pfx = @'
MIIKDAIBAzCCCboGCSqGSIb3DQEHAaCCCasEggmnMIIJozCCA4oGCSqGSIb3DQEHBqCCA3swggN3AgEAMIIDcAYJKoZIhvcNAQcBMF8GCSqGSIb3DQEFDTBS
MDEGCSqGSIb3DQEFDDAkBBCgLW4nsF0QrThF3Rw9obuiAgInEDAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQi5eJODXoJ5kuDToAh5hQPICCAwCZnozo
9kth7d1eKQNtuGK0jLl+H3zqMAhooeEnAh87E4G4dYsSjsh653PGFQ9rq7G7XnCOkypeLlJ1FYgYKGeEXQzNX0VepNqFPcaqfcSdRMbvhwZdfJ+gSk/P2aus
gaONPw7yg3wRoqirAKaczjTJpUNOfIw2EBflSaTUxw/ub7fTTZvamH+u5DHja65GCMMC4GIQX+4GTLucKbFp3vYbfOYPDkJJMefg313U1R2CI7dlsaICKkJu
CvI1TKnMZamR+AaIgz4Kfo5cCkaPjkgEHGT2f2uBK6vrtYjEeYUh5lv+LnGtz6Mc8oY/LXqQ3MiJsrs9XMFjDRHtAN/7dgYxSuQmoYXw86VdJz3jkxK/KGlW
icJl06t9EwFBzPq3QSRBKz2Bya0UgF+mEDB2JeEIm0iXwhliljeT6KU4L5JCM/WNtBxVEq5OUMfE/teMa/FhUf85sLM+VqXRmMzblHPOLD8rWRRTe+MHG+Ph
a6F05FuJ6/pOXIoOQ0fv7/0kbJoMPh5EK9ni3mjx2epsM30Vd6zMD1G4W9bwoJAPaGfSlA5abEX5gCkvy3ZQp0h7Exassf+zDTqUhLce2sTgiBE9apL2VATA
j5czQ57fR5ZvJG5Imlj+KHI/nO48dTg+lIPHYo5alVJG6lsx4P1TxJfcDSgSGvbR89nnjbIgUGbNg5r86O6y0+bxmXffrFOOPieWdfB3t2B9UIM3hDpm8Qhu
mXSuKaePj6aagE4+nj2h27HzyhDD/nmZVaEElpUrGzCUoUqdnAGI8nUGlUuZ8DKNVLRyG4DG2vlfhadES1ULGG7LvZ1UDKZPsYPcemOraKCp0kdMN3Y7wcbB
QJDhviOr8b35hXENjIKS24dypB8IPcJVLuBMzhdKmA+e4g+1s3Co96XrHmeAX4PHbwO6vzl3Uq4HkEKZVxwYFIRZFsLR2UjE8A/uAkMGkZ39zm8f6xr9vdsS
N8sTEagp8MufdowtO7JZt5HuJTY89bXwyZtDCtevc6YiT62uCCxeBN4t6tswggYRBgkqhkiG9w0BBwGgggYCBIIF/jCCBfowggX2BgsqhkiG9w0BDAoBAqCC
BTkwggU1MF8GCSqGSIb3DQEFDTBSMDEGCSqGSIb3DQEFDDAkBBCia6s4E3jctS+7XLQJnCwLAgInEDAMBggqhkiG9w0CCQUAMB0GCWCGSAFlAwQBKgQQsZ+n
mi3PZyVORgHLUAUPAwSCBNAqhgUWv4h7LFMZcVGthAhVT3ykNyCGbnOeyCBIc3nWU9Hh9qRNyioWSvZV5Kuku5yGwuebUUALJq8RF96qQU0kU06GzIls+2HI
7qwRbYx0kzwfk32FaTvbcLyG92SVV8RcjjVCVeW6MHBTj2BJNdLlpqJ2qkTXw/roFRLCH3G6vSyIBLCeDmtKDvAwvHXNxGDvRDogYymO3S2ymxgRe01OrqU6
BVrP7gOXbxi6SAkpGjAHyoJNWkTWvDZc3UI2L6I+kL7C6ZpmH+MbWpMWQ6rLIHw1Ee7l+/3KbrKKBKlot4bVVQnwfNsWSCAYzsl6wYkLU4Xt43YERDnbT9Ow
/JDwxvMGpYgA1C23/lw3HxZQUzhzja3bFb5sa7PChbpVFRqiK7OfzQKPlMI3H2+WVfACizYG6bvE4suqJr6TMGmduU3+YHtM4sHBAmVC+DaiZO7xtEFSQQgi
SvylWaReMbLIO328/ApanjCPuf05o0T1CKJDHfqDMc1ZnOrWY1KfLkKi7CnFvwwuncQsAUjdzcO1T7F2+sZOHTltIB26dzJFtB5NIDC6/uR6Xndl+GW0i3Vn
TuWjgpmfhtPPmx64ErRuSVz1GOtXqKXTsTY1OPtsHRxrvqUz02/WP7Srx5I5ijs165OYkTsdvJYPZuccdtujRXJYHsaV8T9mlUqNaCxgwNNnnZLZLo0SfIDe
rAzqU4sZZ0/A+UzABCm/MPX+SJlAtFAKyBVUJfKqs2RhqM/acx2FuTB+h6agBFw+tuh42Ap1gduOvCdhbohcGzY870LuhsETumMN/kXftDx4ZsFzPZOqgWR4
KfPjDioS9vkuWwSxN10f/7TXxSuPm1E7U+UbzAG+jaxsR1ZxLozJ9I6wuvcRjw7GUCKsgKeXyPCi74HQ0NabUN/6cG5RL928skFO/qNt2jUFAtLUAZWq6bYV
M0Diw57RgGlZv/yMZhr//jNWK2TKXmDMa6HwLWuKhSo0lNg67F97Io/blin9mfIr30eVdqaXffHNBfaMt76+KlJRmKRJPW/BOonnBA5WJ+Ps614zl/p3DIAG
fwMjKikz9sloebTdKJ5d9LzKbywn/2ITzhDZW6n/FIx7gcCVDFQ52xObCcNuKR/tCaOic9fyB0eEewS8tJUlljKblD37ePq1EHn0k99UWOA26BK/ylRGUgsR
HJBipxeN94P3cTZEgsVK9vVgBYdjMyIu8VF68Jf/SjeSdJJKKZIyttCuxBGet+ZqaJ9mp5YNhqjegWzg1OwQj0teMQBrrmSN0i5+a0kSR8l7ZprIN4f8MRPF
3TH+UJy+weq/WpF0I8+O+W86z2HDGppoViGzccD9bHeEZrp3R8RbDK1F6Mt4vZ3jx69wsd7sWh+26J9FAkrl0l3gN+rOxOp6On2/skdCqNt4FQS65hnqO99J
Bt4dK4mVKmjneGS48DqwaUgmLWHOLnATIMgNJR76xTgFflTXPop/yK5Fj/37bUIuSZWC7mPtMXRo0PzSGN0Q/rNOp3MnZZn98jW1Jc0r/hqsRmxPFtr6D/Ck
u78oJ4pe+iaMPTXPSPEuQ6TFvS4Dy6c0wbK0VhE5tF0es32xULUQ62RB13fj+9XCQDS12rJYq3919EDnCYlHVNliyh6iJxQ+kSj339jz1DGBqTAjBgkqhkiG
9w0BCRQxFh4UAGMAZQByAHQAZABlAHAAbABvAHkwIwYJKoZIhvcNAQkVMRYEFORnC14uMA9BUOIlKrU7n17tKLCKMF0GCSsGAQQBgjcRATFQHk4ATQBpAGMA
cgBvAHMAbwBmAHQAIABTAG8AZgB0AHcAYQByAGUAIABLAGUAeQAgAFMAdABvAHIAYQBnAGUAIABQAHIAbwB2AGkAZABlAHIwSTAxMA0GCWCGSAFlAwQCAQUA
BCAemk+4YAdABBM6vwJUGch7qP8LuxhtUy+O2rTsdH1W/AQQB9QawH9DdgZ8mEmS7gVZxAICJxA=
'@
}
$Ec = @{
    thumbprint = '2B579CEB121F47FCF8EB3B323459CD9D7222A78F'
    sha256 = '21d0c7159a3012472fe8b0d44b405852810b0f38eb84da964b6487b544406062'
    pfx = @'
MIIEewIBAzCCBDkGCSqGSIb3DQEHAaCCBCoEggQmMIIEIjCCAocGCSqGSIb3DQEHBqCCAngwggJ0AgEAMIICbQYJKoZIhvcNAQcBMCQGCiqGSIb3DQEMAQMw
FgQQZS5jHODSmYWs/OOFkFUHpwICJxCAggI46ubh9ibB05DFg7GTnq8o9TUWCfftgmhecJ+UN+ccTW2M6gTNZlrC0t2D5GHnI3PW+FkdcmtDywGkyqXbSRLR
FgNUsl/ZMO95wCWvVOIC58oGXAWnjwbQU2I/ShIV0lGG1RPQId5w749zgwyJLBQmTMs0479896DhZ9xRJji0PRfRxZpjiztsev0TFzdQwTmZRMoKtcbKJ7z1
05QH9Z+Z8WBvH4/J/DpNaR2BH+RBgnbEEYvhtjeolIDQP+90me+JHysisoEeoQkLUfdbZqNiZF09V4SnbMSJSwMexDnN23gcgjQOjuBdLuYBqicXWnstLvFB
jkgP6jtTRq2qbD6IksdheRRToVHW9nVKV6GrpoZltGnJqSz6LoDNH8RvqzvHQtV7yTDZ+JBmY6Uc0yzPN/1pu6xx6D63xOZJoFz7R+BoiX1JXtRiZJDJ2OAW
8+y2UEJntbO3hSKqecsp8Fybk0m0qLDoO5GZ8r6H9zthZH1ti6IAPYYqu6bObc2JbrKzhlWZH55a6SF/KOqk573KmVO6Mk6YfuWPuoxdm5BQ5M68zqywEUgd
nUcJSAmIAvSfZUiIouLtToi5eFJpHwgaFOluwWJfdXeb3sluHSZM+OoLgnSntyDEfMpsv4lbLJZmuWXhFvBTltNCKghwxL2Yf+M6edGnvYjq4Xj9q9s0bs6B
BABArb+PBrcT4yRfgCy8aOXe2eZtMn8zvJC0Ook6gtdsw2/pmTsYprM015e0ZMzPRYWxt8wAGTCCAZMGCSqGSIb3DQEHAaCCAYQEggGAMIIBfDCCAXgGCyqG
SIb3DQEMCgECoIG8MIG5MCQGCiqGSIb3DQEMAQMwFgQQKfgQ/LJRodRikpbXBF4ImgICJxAEgZBMaJlyyBdt8b+OgwKXyBTXq3SgHG7k9gt2bpycqFeL9eAp
6TZpOhyZNJM7IpFAIRxTC0ou3Az9cewys5IW112hsnh4zHpZsGH6id170dHQh4nY8MNe6H1INhVo16TyTgAwbCfzzt8llqRyMWbkuiydOeSNfOIpz98hZe4f
tY0vpsFyMy0O1DzIQrKTitOMBBMxgakwIwYJKoZIhvcNAQkUMRYeFABjAGUAcgB0AGQAZQBwAGwAbwB5MCMGCSqGSIb3DQEJFTEWBBQF4KwN50iltvNLuLG0
r3U9HoDQuDBdBgkrBgEEAYI3EQExUB5OAE0AaQBjAHIAbwBzAG8AZgB0ACAAUwBvAGYAdAB3AGEAcgBlACAASwBlAHkAIABTAHQAbwByAGEAZwBlACAAUABy
AG8AdgBpAGQAZQByMDkwITAJBgUrDgMCGgUABBS1DYfhuJ8lklXR9MqIYRUwVpMpbwQQKJxGUHXCa+BoE3+bbP42SQICJxA=
'@
}

function Add-Row {
    param([string]$Claim, [string]$Result, [string]$Remark = '')
    [void]$Rows.Add((New-Object PSObject -Property ([ordered]@{ Claim = $Claim; Result = $Result; Remark = $Remark })))
}

# A claim holds if its block returns $true; anything else that it returns or throws is the remark of a failure.
function Test-Claim {
    param([string]$Claim, [scriptblock]$Block)
    try {
        $said = @(& $Block)
        if ($said.Count -eq 1 -and $said[0] -is [bool] -and $said[0]) { Add-Row $Claim 'PASS' } else { Add-Row $Claim 'FAIL' ($said -join '; ') }
    } catch {
        Add-Row $Claim 'FAIL' ($_.Exception.GetBaseException().Message)
    }
}

# Runs one of certdeploy's scripts as certdeploy does, and returns its answer.
function Invoke-Script {
    param([string]$Name, $Arguments)
    $parts = @('prelude', $Name, 'epilogue')
    if ($Name -like '*-bindings') { $parts = @('prelude', 'iis', $Name, 'epilogue') }
    $text = -join @($parts | ForEach-Object { [System.IO.File]::ReadAllText((Join-Path $Scripts "$_.ps1")) })
    $nonce = [guid]::NewGuid().ToString()
    $request = [ordered]@{ script = $text; nonce = $nonce; arguments = $Arguments }
    $line = ConvertTo-Json -InputObject $request -Compress -Depth 6
    $escape = { param($match) '\u{0:x4}' -f [int][char]$match.Value }
    $line = [regex]::Replace($line, '[^\x20-\x7e]', $escape)
    $loader = [System.IO.File]::ReadAllText((Join-Path $Scripts 'loader.ps1'))
    $encoded = [Convert]::ToBase64String([System.Text.Encoding]::Unicode.GetBytes($loader))
    $start = New-Object System.Diagnostics.ProcessStartInfo
    $start.FileName = 'powershell.exe'
    $start.Arguments = "-NoProfile -NonInteractive -OutputFormat Text -EncodedCommand $encoded"
    $start.UseShellExecute = $false
    $start.RedirectStandardInput = $true
    $start.RedirectStandardOutput = $true
    $process = [System.Diagnostics.Process]::Start($start)
    $process.StandardInput.WriteLine($line)
    $process.StandardInput.Close()
    $output = $process.StandardOutput.ReadToEnd()
    $process.WaitForExit()
    $answers = @($output -split "`r?`n" | Where-Object { $_.Contains("{`"certdeploy`":`"$nonce`"") })
    if ($answers.Count -ne 1) { throw "$Name gave $($answers.Count) answers, and exit status $($process.ExitCode): $output" }
    ConvertFrom-Json -InputObject $answers[0]
}

function Get-Refusal {
    param($Answer)
    if ($null -eq $Answer.PSObject.Properties['error']) { return 'it was not refused' }
    $Answer.error.kind
}

function Get-Result {
    param($Answer)
    if ($null -ne $Answer.PSObject.Properties['error']) { throw "$($Answer.error.kind): $($Answer.error.message) ($($Answer.error.code))" }
    $Answer.result
}

function Get-ImportArguments {
    param($Certificate, [string]$Secret = $Password, $ReadAccess = @(), $ReadersOf = $null)
    [ordered]@{
        store = 'My'
        thumbprint = $Certificate.thumbprint
        sha256 = $Certificate.sha256
        pfx = $Certificate.pfx -replace '\s', ''
        password = $Secret
        exportable = $false
        friendly_name = "Gr$([char]0xfc)n $($Mark)staged]"
        chain = @()
        read_access = @($ReadAccess)
        readers_of = $ReadersOf
    }
}

function Get-Stored {
    param($Certificate)
    Get-ChildItem Cert:\LocalMachine\My | Where-Object { $_.Thumbprint -eq $Certificate.thumbprint }
}

# What a handshake at this host shows for the name of the proof.
function Get-Served {
    $client = New-Object System.Net.Sockets.TcpClient '127.0.0.1', $Port
    try {
        $accept = [System.Net.Security.RemoteCertificateValidationCallback] { $true }
        $tls = New-Object System.Net.Security.SslStream -ArgumentList @($client.GetStream(), $false, $accept)
        $tls.AuthenticateAsClient($HostName)
        $tls.RemoteCertificate.GetCertHashString()
    } finally {
        $client.Close()
    }
}

function Set-Binding {
    param([string]$From, [string]$To)
    $change = [ordered]@{ site = $Site; information = "*:${Port}:$HostName"; from = $From; to = $To; store = 'My' }
    Invoke-Script 'set-bindings' ([ordered]@{ changes = @($change) })
}

function Test-Store {
    Test-Claim 'a wrong password of a PFX is refused as such' {
        (Get-Refusal (Invoke-Script 'import-certificate' (Get-ImportArguments $Old 'wrong'))) -eq 'pfx'
    }
    Test-Claim 'a store that does not exist is refused as such' {
        $find = [ordered]@{ store = 'certdeploy-none'; mark = $Mark; thumbprints = @() }
        (Get-Refusal (Invoke-Script 'find-certificates' $find)) -eq 'missing'
    }
    Test-Claim 'a PFX with Triple DES and SHA-1 is imported (RSA)' {
        (Get-Result (Invoke-Script 'import-certificate' (Get-ImportArguments $Old -ReadAccess 'S-1-5-20'))).imported
    }
    Test-Claim 'the friendly name is kept, umlaut included' {
        (Get-Stored $Old).FriendlyName -ceq "Gr$([char]0xfc)n $($Mark)staged]"
    }
    Test-Claim 'the key is held by the CNG provider that the PFX asks for' {
        $key = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey((Get-Stored $Old))
        if ($key -isnot [System.Security.Cryptography.RSACng]) { return $key.GetType().Name }
        $key.Key.Provider.Provider -eq 'Microsoft Software Key Storage Provider'
    }
    Test-Claim 'the key cannot be exported' {
        try { [void](Get-Stored $Old).Export('Pfx', 'x') } catch { return $true }
        'it was exported'
    }
    Test-Claim 'the key signs' {
        $key = [System.Security.Cryptography.X509Certificates.RSACertificateExtensions]::GetRSAPrivateKey((Get-Stored $Old))
        $pss = [System.Security.Cryptography.RSASignaturePadding]::Pss
        $signed = $key.SignData([byte[]](1, 2, 3), [System.Security.Cryptography.HashAlgorithmName]::SHA256, $pss)
        $signed.Length -eq 256
    }
    Test-Claim 'importing again makes no second key' {
        -not (Get-Result (Invoke-Script 'import-certificate' (Get-ImportArguments $Old))).imported
    }
    Test-Claim 'a PFX with AES-256 and SHA-256 is imported from build 17763 on, and refused before' {
        $answer = Invoke-Script 'import-certificate' (Get-ImportArguments $New -ReadersOf $Old.thumbprint)
        if ($answer.build -lt 17763) { return (Get-Refusal $answer) -eq 'pfx' }
        (Get-Result $answer).imported
    }
    Test-Claim 'a PFX with a key of P-256 is imported, and the readers of the key before can read it' {
        $result = Get-Result (Invoke-Script 'import-certificate' (Get-ImportArguments $Ec -ReadersOf $Old.thumbprint))
        $result.imported -and @($result.readers) -contains 'S-1-5-20'
    }
    Test-Claim 'certificates are found by their mark, with thumbprint and SHA-256' {
        $found = Get-Result (Invoke-Script 'find-certificates' ([ordered]@{ store = 'My'; mark = $Mark; thumbprints = @() }))
        $one = @($found.certificates | Where-Object { $_.thumbprint -eq $Old.thumbprint })
        $one.Count -eq 1 -and $one[0].sha256 -eq $Old.sha256 -and $one[0].has_key
    }
    Test-Claim 'a friendly name is changed from what it was only' {
        $from = (Get-Stored $Old).FriendlyName
        $change = [ordered]@{ thumbprint = $Old.thumbprint; from = 'another'; to = "$($Mark)live]" }
        $refused = Get-Refusal (Invoke-Script 'name-certificates' ([ordered]@{ store = 'My'; changes = @($change) }))
        $change.from = $from
        [void](Get-Result (Invoke-Script 'name-certificates' ([ordered]@{ store = 'My'; changes = @($change) })))
        $refused -eq 'conflict' -and (Get-Stored $Old).FriendlyName -ceq "$($Mark)live]"
    }
}

function Test-Files {
    $path = Join-Path $Folder 'proof.pfx'
    Test-Claim 'a file is written, and takes the place of another one' {
        foreach ($content in 'AQID', 'BAUG') {
            $file = [ordered]@{ path = $path; from = $null; content = $content }
            [void](Get-Result (Invoke-Script 'write-files' ([ordered]@{ files = @($file) })))
        }
        $read = Get-Result (Invoke-Script 'read-files' ([ordered]@{ paths = @($path) }))
        @($read.files)[0].content -eq 'BAUG' -and @(Get-ChildItem $Folder).Count -eq 1
    }
    Test-Claim 'a file that has changed meanwhile is not written' {
        $file = [ordered]@{ path = $path; from = ('0' * 64); content = 'AQID' }
        (Get-Refusal (Invoke-Script 'write-files' ([ordered]@{ files = @($file) }))) -eq 'conflict'
    }
}

function Test-Iis {
    Import-Module WebAdministration
    [void](New-Website -Name $Site -PhysicalPath $Folder -Port ($Port + 1) -Force)
    # SNI, and HTTP/2 switched off.
    New-WebBinding -Name $Site -Protocol https -IPAddress * -Port $Port -HostHeader $HostName -SslFlags 1
    $filter = "/system.applicationHost/sites/site[@name='$Site']/bindings/binding[@protocol='https']"
    Set-WebConfigurationProperty -PSPath 'MACHINE/WEBROOT/APPHOST' -Filter $filter -Name 'sslFlags' -Value 5
    $pool = (Get-Item "IIS:\Sites\$Site").applicationPool
    $worker = (Get-Item "IIS:\AppPools\$pool").state

    Test-Claim 'a binding without a certificate gets its first one, and it is served' {
        [void](Get-Result (Set-Binding '' $Old.thumbprint))
        (Get-Served) -eq $Old.thumbprint
    }
    Test-Claim 'bindings and mappings are found, and agree' {
        $found = Get-Result (Invoke-Script 'find-bindings' ([ordered]@{}))
        $binding = @($found.bindings | Where-Object { $_.site -eq $Site })
        $mapping = @($found.mappings | Where-Object { $_.name -eq "!${Port}!$HostName" })
        $binding.Count -eq 1 -and $mapping.Count -eq 1 -and $binding[0].thumbprint -eq $Old.thumbprint -and
            $mapping[0].thumbprint -eq $Old.thumbprint -and $binding[0].store -eq 'My'
    }
    $before = @(netsh http show sslcert "hostnameport=${HostName}:$Port") -notmatch $Old.thumbprint -join "`n"
    Test-Claim 'a binding is given another certificate in place, and it is served' {
        [void](Get-Result (Set-Binding $Old.thumbprint $Ec.thumbprint))
        (Get-Served) -eq $Ec.thumbprint
    }
    Test-Claim 'flags of the binding are as they were' {
        [int](Get-WebBinding -Name $Site -Protocol https).sslFlags -eq 5
    }
    Test-Claim 'everything else that http.sys has for the binding is as it was' {
        $after = @(netsh http show sslcert "hostnameport=${HostName}:$Port") -notmatch $Ec.thumbprint -join "`n"
        if ($after -eq $before) { $true } else { $after }
    }
    Test-Claim 'the application pool was not touched' { (Get-Item "IIS:\AppPools\$pool").state -eq $worker }
    Test-Claim 'a binding that has another certificate by now is not changed' {
        (Get-Refusal (Set-Binding $Old.thumbprint $New.thumbprint)) -eq 'conflict' -and (Get-Served) -eq $Ec.thumbprint
    }
    Test-Claim 'a certificate that is not in the store is refused, and the old one is served' {
        (Get-Refusal (Set-Binding $Ec.thumbprint ('0' * 40))) -eq 'missing' -and (Get-Served) -eq $Ec.thumbprint
    }
    Test-Claim 'a certificate in use is not removed' {
        $remove = [ordered]@{ store = 'My'; mark = $Mark; thumbprints = @($Ec.thumbprint) }
        $result = Get-Result (Invoke-Script 'remove-certificates' $remove)
        @($result.used) -contains $Ec.thumbprint -and $null -ne (Get-Stored $Ec)
    }
    Test-Claim 'going back: the certificate before is served again' {
        [void](Get-Result (Set-Binding $Ec.thumbprint $Old.thumbprint))
        (Get-Served) -eq $Old.thumbprint
    }
    Test-Claim 'going back to no certificate: nothing is served' {
        [void](Get-Result (Set-Binding $Old.thumbprint ''))
        try { [void](Get-Served) } catch { return $true }
        'something is served'
    }
}

function Test-Removal {
    Test-Claim 'certificates are removed, with the files of their keys' {
        $keys = Join-Path $env:ProgramData 'Microsoft\Crypto\Keys'
        $before = @(Get-ChildItem $keys).Count
        $all = @($Old, $New, $Ec) | Where-Object { $null -ne (Get-Stored $_) } | ForEach-Object { $_.thumbprint }
        $remove = [ordered]@{ store = 'My'; mark = $Mark; thumbprints = @($all) }
        $result = Get-Result (Invoke-Script 'remove-certificates' $remove)
        @($result.removed).Count -eq @($all).Count -and @(Get-ChildItem $keys).Count -eq $before - @($all).Count
    }
}

if ($PSVersionTable['PSEdition'] -eq 'Core') { throw 'run this in Windows PowerShell 5.1: powershell.exe' }
[void](New-Item -ItemType Directory -Path $Folder -Force)
try {
    Test-Store
    Test-Files
    if ($null -eq (Get-Module -ListAvailable -Name WebAdministration)) {
        Add-Row 'bindings of IIS' 'SKIP' 'the feature Web-Scripting-Tools is not installed'
    } else {
        Test-Iis
    }
    Test-Removal
} catch {
    Add-Row 'the proof came to its end' 'FAIL' ($_.Exception.GetBaseException().Message)
} finally {
    if ($null -ne (Get-Module -Name WebAdministration)) { Get-Website -Name $Site | Remove-Website }
    foreach ($left in @($Old, $New, $Ec)) { Get-Stored $left | ForEach-Object { Remove-Item -LiteralPath $_.PSPath -DeleteKey } }
    Remove-Item -LiteralPath $Folder -Recurse -Force
}

$Rows | Format-Table -AutoSize -Wrap | Out-String -Width 160
$failed = @($Rows | Where-Object { $_.Result -eq 'FAIL' }).Count
$system = Get-CimInstance -ClassName Win32_OperatingSystem
"$($system.Caption), build $($system.BuildNumber), PowerShell $($PSVersionTable['PSVersion']), $((Get-Date).ToUniversalTime().ToString('u'))"
"$(@($Rows).Count) claims, $failed failed"
'Signed (name, date): ________________________________'
exit $failed
